import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { kindOf } from '../lib/errors.ts';
import { FolderStore } from '../lib/folder-store/store.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'folder-store-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true });
});

/** Writes one object after the other, over and over, until it is killed; says so when the first round is over. */
const writer = `
  const { FolderStore } = await import(${JSON.stringify(join(import.meta.dirname, '../lib/folder-store/store.ts'))});
  const store = new FolderStore(process.argv[1], '.modelferry');
  for (let round = 0; ; round += 1) {
    for (const name of ['a', 'b', 'c']) await store.put('models/' + name, Buffer.from(name + round), { metadata: { round: String(round) } });
    if (round === 0) console.log('writing');
  }
`;

test('an upload that is aborted while parts of it are sent stays gone', async () => {
  const store = new FolderStore(dir, '.modelferry');
  const bytes = Buffer.alloc(4 * 1024 ** 2);
  const outcomes = new Set<string>();
  for (let round = 0; round < 40; round += 1) {
    const upload = await store.beginMultipart('models/large', { size: 4 * bytes.length, partSize: bytes.length });
    const sending = [1, 2, 3, 4].map((number) => store.uploadPart(upload, number, bytes).then(() => 'sent', kindOf));
    for (let turns = round; turns > 0; turns -= 1) await new Promise((resolve) => setImmediate(resolve));
    await store.abortMultipart(upload);
    for (const outcome of await Promise.all(sending)) outcomes.add(outcome);
    expect(await readdir(join(dir, '.modelferry/folder-store')), `round ${round}`).not.toContain('uploads');
  }
  // A store says of an upload that is gone that it is not there.
  expect([...outcomes].sort()).toEqual(expect.arrayContaining(['not-found']));
  expect([...outcomes].filter((outcome) => !['not-found', 'sent'].includes(outcome))).toEqual([]);
});

test('an upload that two runs hold becomes an object of the bytes of whoever completes it, or none: the other one touches it no more', async () => {
  const [first, second] = [new FolderStore(dir, '.modelferry'), new FolderStore(dir, '.modelferry')];
  const [bytes, others] = [Buffer.alloc(1024 ** 2, 1), Buffer.alloc(1024 ** 2, 2)];
  const outcomes = new Set<string>();
  for (let round = 0; round < 60; round += 1) {
    const upload = await first.beginMultipart('models/large', { size: bytes.length, partSize: bytes.length, metadata: { of: 'both' } });
    let turns = round;
    const late = async () => {
      for (; turns > 0; turns -= 1) await new Promise((resolve) => setImmediate(resolve));
      return await first.uploadPart(upload, 1, others).then(() => 'sent', kindOf);
    };
    const sending = late();
    const part = await second.uploadPart(upload, 1, bytes);
    const completed = await second.completeMultipart(upload, [part], bytes.length).catch(kindOf);
    outcomes.add(`${await sending}, ${typeof completed === 'string' ? completed : 'completed'}`);
    if (typeof completed === 'string') await second.abortMultipart(upload);
    else {
      const found = await second.get('models/large');
      expect([found?.info.etag, found?.info.metadata, found?.bytes.equals(bytes)], `round ${round}`).toEqual([
        completed.etag,
        { of: 'both' },
        true,
      ]);
      expect(await second.listParts(upload)).toBeUndefined();
    }
  }
  // The last: the late one had written when the upload was moved away, and its bytes are not taken for the other's.
  const right = ['sent, completed', 'sent, integrity', 'not-found, completed', 'not-found, integrity'];
  expect([...outcomes].filter((each) => !right.includes(each))).toEqual([]);
});

describe('a folder store whose writer is killed', () => {
  test('has every object with its metadata: none looks as if somebody else had put it there', async () => {
    const store = new FolderStore(dir, '.modelferry');
    for (let kill = 0; kill < 12; kill += 1) {
      const child = spawn(process.execPath, ['--input-type=module', '--eval', writer, dir], { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      child.kill('SIGKILL');
      await once(child, 'exit');
      for await (const { key } of store.list('models/')) {
        const found = await store.get(key);
        const info = await store.head(key);
        expect(info?.metadata?.round, `${key} after kill ${kill}`).toBe(found?.bytes.toString().slice(1));
      }
    }
  });

  test('keeps nothing of it: no temporary file, no lock, no half of an upload', async () => {
    for (let kill = 0; kill < 6; kill += 1) {
      const child = spawn(process.execPath, ['--input-type=module', '--eval', writer, dir], { stdio: ['ignore', 'pipe', 'inherit'] });
      await once(child.stdout, 'data');
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    // A delete that was killed between the object and its record.
    const store = new FolderStore(dir, '.modelferry');
    await store.put('.modelferry/claims/x.json', Buffer.from('{}'));
    await rm(join(dir, '.modelferry/claims/x.json'));
    await store.sweep({ claim: '.modelferry/claims/x.json' });
    const own = join(dir, '.modelferry/folder-store');
    expect([await readdir(join(own, 'tmp')), await readdir(join(own, 'locks'))]).toEqual([[], []]);
    expect((await readdir(join(own, 'objects'), { recursive: true })).filter((name) => name.endsWith('.json')).sort()).toEqual(
      ['a', 'b', 'c'].map((name) => `models/${name}.json`),
    );
  });
});

/** Puts an object, copies it, sends one in parts and deletes one, in folders that are there. */
const changes = `
  const { FolderStore } = await import(${JSON.stringify(join(import.meta.dirname, '../lib/folder-store/store.ts'))});
  const store = new FolderStore(process.argv[1], '.modelferry');
  const there = await store.head('models/there');
  await store.put('models/put', Buffer.from('put'), { metadata: { of: 'put' } });
  await store.copy(there, 'models/copied', { of: 'copy' });
  const upload = await store.beginMultipart('models/parts', { size: 5, partSize: 5 });
  await store.completeMultipart(upload, [await store.uploadPart(upload, 1, Buffer.from('parts'))], 5);
  await store.delete(['models/put']);
`;

/** What a program told the disk, and what it renamed, in order, by paths below `folder`; those made up are all `one`. */
async function flushesAndRenames(code: string, folder: string, cwd: string): Promise<string[]> {
  const flags = ['--trace-event-categories', 'node.fs.async', '--input-type=module', '--eval'];
  const child = spawn(process.execPath, [...flags, code, folder], { cwd, stdio: ['ignore', 'ignore', 'inherit'] });
  expect(await once(child, 'exit')).toEqual([0, null]);
  const { traceEvents } = JSON.parse(await readFile(join(cwd, 'node_trace.1.log'), 'utf8')) as {
    traceEvents: { name: string; ph: string; args: { path?: string; new_path?: string } }[];
  };
  const shown = (path = '') => relative(folder, path).replace(/[^/]*\.tmp|[0-9a-f-]{36}/, 'one');
  let opened: string | undefined;
  const told: string[] = [];
  for (const { name, args } of traceEvents.filter(({ ph }) => ph === 'b')) {
    if (name === 'open') opened = args.path;
    if (name === 'fsync') told.push(`flush ${shown(opened)}`);
    if (name === 'rename') told.push(`rename ${shown(args.new_path)}`);
  }
  return told;
}

describe('a folder store and a power cut', () => {
  const own = '.modelferry/folder-store';

  test('whatever is renamed is on the disk before, and so is its new name before it is told of', async () => {
    const store = new FolderStore(join(dir, 'store'), '.modelferry');
    await store.put('models/there', Buffer.from('there'));
    const placed = (name: string) => [
      `flush ${own}/tmp/one`,
      `rename ${own}/objects/models/${name}.json`,
      `flush ${own}/objects/models`,
      `rename models/${name}`,
      'flush models',
    ];
    expect(await flushesAndRenames(changes, join(dir, 'store'), dir)).toEqual([
      ...[`flush ${own}/tmp/one`, ...placed('put')],
      ...[`flush ${own}/tmp/one`, ...placed('copied')],
      // The folder of the uploads is made for the first one.
      ...[`flush ${own}/tmp/one/upload.json`, `rename ${own}/uploads/one`, `flush ${own}/uploads`, `flush ${own}`],
      // A part's record is judged when it is read.
      `rename ${own}/uploads/one/part-1.json`,
      ...[`flush ${own}/uploads/one/data`, `rename ${own}/tmp/one`, ...placed('parts')],
      // Of a delete.
      'flush models',
    ]);
  });

  test('a part whose record came onto the disk without its bytes is not there', async () => {
    const store = new FolderStore(dir, '.modelferry');
    const upload = await store.beginMultipart('models/large', { size: 8, partSize: 4 });
    const parts = [await store.uploadPart(upload, 1, Buffer.from('one.')), await store.uploadPart(upload, 2, Buffer.from('two.'))];
    const folder = join(dir, own, 'uploads', upload.uploadId);
    // As another start of the machine finds them, and as those that an older version wrote.
    for (const [number, changes] of [
      [1, { boot: 'another' }],
      [2, { boot: undefined }],
    ] as const) {
      const path = join(folder, `part-${number}.json`);
      await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), ...changes }));
    }
    expect(await store.listParts(upload)).toEqual(parts.map((part) => ({ ...part, size: 4 })));
    const data = await open(join(folder, 'data'), 'r+');
    await data.write(Buffer.alloc(4), 0, 4, 4);
    await data.close();
    expect(await store.listParts(upload)).toEqual([{ ...parts[0], size: 4 }]);
    await expect(store.completeMultipart(upload, parts, 8)).rejects.toMatchObject({ kind: 'integrity' });
    const again = await store.uploadPart(upload, 2, Buffer.from('two.'));
    await store.completeMultipart(upload, [...parts.slice(0, 1), again], 8);
    expect((await store.get('models/large'))?.bytes.toString()).toBe('one.two.');
  });

  test.each([
    ['empty', ''],
    ['torn', '{"etag":"'],
    ['of other bytes', '{"etag":"1-1","metadata":{"of":"others"}}'],
  ])('a record that is %s says nothing of the object beside it', async (_, record) => {
    const store = new FolderStore(dir, '.modelferry');
    await store.put('models/a', Buffer.from('bytes'), { metadata: { of: 'these' } });
    await writeFile(join(dir, own, 'objects/models/a.json'), record);
    expect(await store.get('models/a')).toMatchObject({ bytes: Buffer.from('bytes'), info: { metadata: {} } });
    await store.put('models/a', Buffer.from('bytes'), { metadata: { of: 'these' } });
    expect((await store.head('models/a'))?.metadata).toEqual({ of: 'these' });
  });
});
