import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { tarEnd, tarHeader } from '../lib/tar.ts';
import { download } from '../tasks/download/step.ts';
import { importModel } from '../tasks/import/step.ts';
import { plan } from '../tasks/plan/step.ts';
import { sync } from '../tasks/sync/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { type FakeCache, openCache } from './fakes/cache.ts';
import type { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { runInProcess } from './fakes/program.ts';
import type { FakeS3 } from './fakes/s3.ts';

/** `pickle.dumps(os.system ...)` as Python writes it by protocol 2, and an ordered dict that imports what is listed. */
const evil = Buffer.from('\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.', 'latin1');
const good = Buffer.from('\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01.', 'latin1');

let cache: FakeCache;
let hub: FakeHub;
let s3: FakeS3;
let dir: string;
let env: Record<string, string>;
beforeEach(async () => {
  cache = await openCache({});
  ({ hub, s3, dir } = cache);
  env = { ...cache.env, MODEL_ID: 'acme/model', WORKSPACE: dir };
});
afterEach(() => cache.close());

function model(more: Record<string, Buffer>, license = 'apache-2.0'): void {
  const files = tinyLlama();
  files.set('README.md', Buffer.from(license === '' ? '# Nothing said\n' : `---\nlicense: ${license}\n---\n`));
  for (const [path, bytes] of Object.entries(more)) files.set(path, bytes);
  hub.addRepo({ id: 'acme/model', files });
}

/** A tar archive that writes outside of the folder it is unpacked into, and one that unpacks to 100 MiB of zeros. */
const leaving = Buffer.concat([tarHeader('../../evil', 0), tarEnd()]);
const bomb = gzipSync(Buffer.alloc(100 * 1024 ** 2));

/** All ways into the store: over a workspace, in one go, and streamed. */
const ways = {
  'download and upload': async (more: Record<string, string>) => {
    const { MODEL_ID, ...rest } = { ...env, ...more };
    const downloaded = await runInProcess(download, [], { ...env, ...more });
    return downloaded.exitCode === 0 ? await runInProcess(upload, [], rest) : downloaded;
  },
  import: async (more: Record<string, string>) => await runInProcess(importModel, [], { ...env, ...more }),
  sync: async (more: Record<string, string>) => await runInProcess(sync, [], { ...env, ...more }),
};

describe.each(Object.entries(ways))('%s', (_, run) => {
  test('refuses a pickle that imports what is not listed, before a byte is published, and names file and import', async () => {
    model({ 'pytorch_model.bin': evil, 'sub/more.pt': evil });
    const { exitCode, stderr } = await run({});
    expect(exitCode, stderr).toBe(7);
    for (const word of ['pytorch_model.bin', 'sub/more.pt', 'posix.system', '--ignore-patterns']) expect(stderr).toContain(word);
    expect(s3.keys('models')).toEqual([]);
    expect((await run({ IGNORE_PATTERNS: '*.bin *.pt' })).exitCode).toBe(0);
  });

  test('refuses archives that are made to do harm, before a byte is published', async () => {
    model({ 'leaving.tar': leaving, 'bomb.tar.gz': bomb });
    const { exitCode, stderr } = await run({});
    expect([exitCode, stderr]).toEqual([7, expect.stringMatching(/bomb\.tar\.gz.*unpack to.*leaving\.tar.*leaves the folder/)]);
    expect(s3.keys('models')).toEqual([]);
    const seven = Buffer.from('377abcaf271c0004', 'hex');
    model({ 'data.7z': seven });
    expect([(await run({ ALLOW_UNSAFE: 'never' })).exitCode, s3.keys('models')]).toEqual([7, []]);
    expect(await run({})).toMatchObject({
      exitCode: 0,
      stderr: expect.stringMatching(/data\.7z.*not all of this archive was looked into/),
    });
  });

  test('takes weights that are pickles, tells Python files, and takes all of it where that is said', async () => {
    model({ 'pytorch_model.bin': good, 'modeling_custom.py': Buffer.from('print()') });
    const { exitCode, stderr } = await run({});
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toContain('modeling_custom.py');
    model({ 'pytorch_model.bin': evil });
    const always = await run({ ALLOW_UNSAFE: 'always', MODEL_VERSION: 'evil' });
    expect([always.exitCode, always.stderr]).toEqual([0, expect.stringContaining('posix.system')]);
  });

  test('takes no pickle and no Python file at all where that is said', async () => {
    model({ 'weights.pt': good, 'modeling_custom.py': Buffer.from('print()') });
    const byName = await run({ ALLOW_UNSAFE: 'never' });
    expect([byName.exitCode, byName.stderr]).toEqual([
      7,
      expect.stringMatching(/weights\.pt.*modeling_custom\.py|modeling_custom\.py.*weights\.pt/),
    ]);
    model({ 'other.bin': good });
    const byBytes = await run({ ALLOW_UNSAFE: 'never' });
    expect([byBytes.exitCode, byBytes.stderr]).toEqual([7, expect.stringContaining('other.bin is a pickle')]);
    expect(s3.keys('models')).toEqual([]);
  });

  test('looks at the licence before a byte moves', async () => {
    model({}, 'cc-by-nc-4.0');
    const { requests } = hub.cdn;
    const policies: Record<string, string>[] = [{ DENY_LICENSES: 'cc-by-nc*' }, { ALLOW_LICENSES: 'mit apache-2.0' }];
    for (const more of policies) {
      const { exitCode, stderr } = await run(more);
      expect([exitCode, stderr]).toEqual([7, expect.stringContaining('cc-by-nc-4.0')]);
    }
    model({}, '');
    expect([(await run({ REQUIRE_LICENSE: 'true' })).exitCode, (await run({ ALLOW_LICENSES: '*' })).exitCode]).toEqual([7, 7]);
    expect([requests.length, s3.keys('models')]).toEqual([0, []]);
    model({}, 'MIT');
    expect((await run({ ALLOW_LICENSES: 'mit,apache-2.0', REQUIRE_LICENSE: 'true', DENY_LICENSES: 'gpl*' })).exitCode).toBe(0);
  });
});

test('a plan is refused like what it plans', async () => {
  model({ 'pytorch_model.bin': evil });
  const { exitCode, stderr } = await runInProcess(plan, [], env);
  expect([exitCode, stderr]).toEqual([7, expect.stringContaining('posix.system')]);
  const denied = await runInProcess(plan, [], { ...env, ALLOW_UNSAFE: 'always', DENY_LICENSES: 'apache*' });
  expect([denied.exitCode, s3.keys('models')]).toEqual([7, []]);
});

test('a shard judges what it brings by the policy of its plan, which may have been shown other bytes', async () => {
  model({ 'pytorch_model.bin': Buffer.concat([evil, Buffer.alloc(200_000, 0xff)]) });
  const { MODEL_ID: _, ...pod } = env;
  const shardOf = async (...flags: string[]) => {
    const { results, stderr } = await runInProcess(plan, ['--shards', '1', ...flags], env);
    expect(stderr).toContain('planned');
    return ['--plan', results.plan ?? '', '--shard', '0/1'];
  };
  const heal = hub.cdn.fail({ on: /GET/, times: Number.POSITIVE_INFINITY, flipByteAt: 0 });
  const shard = await shardOf('--model-version', 'shown');
  heal();
  const { exitCode, stderr } = await runInProcess(sync, shard, pod);
  expect([exitCode, stderr]).toEqual([7, expect.stringContaining('posix.system')]);
  expect(s3.keys('models', 'model-data/')).toEqual([]);

  const taken = await runInProcess(sync, await shardOf('--model-version', 'always', '--allow-unsafe', 'always'), pod);
  expect([taken.exitCode, taken.stderr]).toEqual([0, expect.stringContaining('posix.system')]);
});

test('a Hub that shows other bytes to a look than to the one who takes them all is found out', async () => {
  // A pickle at the end of an archive would be looked at by ranges: here the first bytes are shown clean, once.
  const large = Buffer.concat([evil, Buffer.alloc(200_000, 0xff)]);
  model({ 'pytorch_model.bin': large });
  hub.cdn.fail({ on: ({ method, headers }) => method === 'GET' && headers.range !== undefined, times: 9, flipByteAt: 0 });
  const { exitCode, stderr } = await runInProcess(sync, [], env);
  expect([exitCode, stderr]).toEqual([6, expect.stringContaining('other bytes came than were looked into')]);
  expect(s3.object('models', '.modelferry/manifests/model-data/model')).toBeUndefined();
  expect(s3.keys('models', '.modelferry/manifests/')).toEqual([]);
});
