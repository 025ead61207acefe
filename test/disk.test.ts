import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { PartialFile } from '../lib/local/partial-file.ts';
import { download } from '../tasks/download/step.ts';
import { fetch } from '../tasks/fetch/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { bytesOf } from './fakes/content.ts';
import { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { Program, runInProcess } from './fakes/program.ts';
import { fillWorkspace } from './fakes/workspace.ts';
import { heldModels } from './torture/folders.ts';

const files = tinyLlama({ shardBytes: 3_000_000 });
const contents = Object.fromEntries([...files].map(([path, content]) => [path, bytesOf(content)]));
const diskBytes = 10 * 1024 ** 2;

/** So small that it and what is made of it fit on the disk together. */
const smaller = Object.fromEntries([...tinyLlama({ shardBytes: 1_500_000 })].map(([path, content]) => [path, bytesOf(content)]));

let disk: string;
let mounted = false;
beforeAll(async () => {
  disk = await mkdtemp(join(tmpdir(), 'disk-'));
  mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${diskBytes}`, 'tmpfs', disk]).status === 0;
  if (!mounted) console.warn('small disks are not tested: mounting a tmpfs needs root');
});
afterAll(async () => {
  if (mounted) spawnSync('umount', ['-l', disk]);
  await rm(disk, { recursive: true });
});

let hub: FakeHub;
let dir: string;
beforeEach(async () => {
  hub = await new FakeHub().listen();
  hub.addRepo({ id: 'acme/model', files });
  dir = await mkdtemp(join(tmpdir(), 'disk-test-'));
});
afterEach(async () => {
  await hub.close();
  await rm(dir, { recursive: true, force: true });
  if (mounted) for (const name of await readdir(disk)) await rm(join(disk, name), { recursive: true });
});

const downloadTo = (workspace: string) =>
  runInProcess(download, [], { MODEL_ID: 'acme/model', WORKSPACE: workspace, HF_ENDPOINT: hub.origin, RETRIES: '0' });
const fetchTo = (env: Record<string, string>) =>
  runInProcess(fetch, [], { MODEL_ID: 'acme/model', HF_ENDPOINT: hub.origin, RETRIES: '0', ...env });
const compressIn = (workspace: string, method: string, flags: readonly string[] = []) =>
  new Program('compress', ['--method', method, ...flags], { WORKSPACE: workspace }).ended;
const uploadFrom = (workspace: string, store: string) =>
  runInProcess(upload, [], { WORKSPACE: workspace, STORE_DIR: store, PART_SIZE: '1MiB' });
const manifestsIn = async (store: string) =>
  (await readdir(store, { recursive: true }).catch(() => [])).filter((name) => /^\.modelferry\/manifests\/.*json$/.test(name));

/** Takes all that is left of the disk but so many bytes. */
async function fill(but: number): Promise<void> {
  const { stdout } = spawnSync('df', ['--output=avail', '-B1', disk], { encoding: 'utf8' });
  await writeFile(join(disk, 'ballast'), Buffer.alloc(Math.max(0, Number(stdout.split('\n')[1]) - but)));
}

describe('a disk that fills up', () => {
  test('under a download: refused, said so, and gone on with where there is room', async ({ skip }) => {
    if (!mounted) skip('mounting a tmpfs needs root');
    const opened = Promise.withResolvers<void>();
    hub.cdn.fail({ on: /./, times: 99, hold: opened.promise });
    const running = downloadTo(join(disk, 'workspace'));
    while (hub.cdn.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await fill(1_000_000);
    opened.resolve();
    const { exitCode, stderr } = await running;
    expect([exitCode, stderr]).toEqual([7, expect.stringContaining('ENOSPC')]);
    await rm(join(disk, 'ballast'));
    const again = await downloadTo(join(disk, 'workspace'));
    expect(again.exitCode, again.stderr).toBe(0);
  });

  test.each([0, 100_000, 1_000_000, 3_500_000, 5_900_000])(
    'under a folder store with %i bytes left: nothing is published',
    async (left) => {
      if (!mounted) return;
      await fillWorkspace(dir, contents, { repo: 'acme/model' });
      await fill(left);
      const store = join(disk, 'store');
      const { exitCode, stderr } = await uploadFrom(dir, store);
      expect([exitCode, stderr]).toEqual([7, expect.stringContaining('ENOSPC')]);
      expect(await manifestsIn(store)).toEqual([]);
      await rm(join(disk, 'ballast'));
      const again = await uploadFrom(dir, store);
      expect(again.exitCode, again.stderr).toBe(0);
      expect((await manifestsIn(store)).length).toBe(1);
      for (const [path, bytes] of Object.entries(contents)) {
        const place = again.results['model-uri']?.replace('file://', '') ?? '';
        expect((await readFile(join(place, path))).equals(bytes), path).toBe(true);
      }
    },
  );

  test('that may only be read: denied, and nothing is asked of it twice', async ({ skip }) => {
    if (!mounted) skip('mounting a tmpfs needs root');
    await mkdir(join(disk, 'workspace'));
    spawnSync('mount', ['-o', 'remount,ro', disk]);
    const downloaded = await downloadTo(join(disk, 'workspace'));
    await fillWorkspace(dir, contents, { repo: 'acme/model' });
    const uploaded = await uploadFrom(dir, join(disk, 'store'));
    spawnSync('mount', ['-o', 'remount,rw', disk]);
    expect([downloaded.exitCode, downloaded.stderr]).toEqual([4, expect.stringContaining('EROFS')]);
    expect([uploaded.exitCode, uploaded.stderr]).toEqual([4, expect.stringContaining('EROFS')]);
  });
});

describe.each(['fp8-dynamic', 'archive'])('a disk that fills up under compress --method %s', (method) => {
  test('is refused, said so, and nothing that is not whole has a manifest', { timeout: 60_000 }, async ({ skip }) => {
    if (!mounted) skip('mounting a tmpfs needs root');
    const workspace = join(disk, 'workspace');
    await fillWorkspace(workspace, smaller, { repo: 'acme/model' });
    const plan = await compressIn(workspace, method, ['--dry-run']);
    const { bytesToWrite, tarBytes } = JSON.parse(plan.stdout) as { bytesToWrite: number | null; tarBytes: number };
    const need = bytesToWrite ?? tarBytes;
    // Some are seen before anything is written, others at the small files that come behind the large ones.
    const codes: (number | null)[] = [];
    for (const left of [0, need - 500_000, need - 4096, need + 2 * 4096, need + 8 * 4096]) {
      await fill(left);
      const { exitCode, stderr } = await compressIn(workspace, method);
      codes.push(exitCode);
      if (exitCode !== 0) expect([exitCode, stderr]).toEqual([7, expect.stringMatching(/ENOSPC|bytes free/)]);
      const derived = (await heldModels(workspace)).filter(({ manifest }) => manifest.derived);
      expect([derived.length, derived.flatMap(({ faults }) => faults)]).toEqual([exitCode === 0 ? 1 : 0, []]);
      await rm(join(disk, 'ballast'));
      if (exitCode === 0) break;
    }
    expect(codes[0]).toBe(7);
    const last = await compressIn(workspace, method);
    expect(last.exitCode, last.stderr).toBe(0);
    expect((await heldModels(workspace)).map(({ faults }) => faults)).toEqual([[], []]);
  });
});

describe.each(['WORKSPACE', 'MODEL_DIR'])('a disk that fills up under fetch into %s', (where) => {
  test('is refused, said so, and gone on with where there is room', async ({ skip }) => {
    if (!mounted) skip('mounting a tmpfs needs root');
    const opened = Promise.withResolvers<void>();
    hub.cdn.fail({ on: /./, times: 99, hold: opened.promise });
    const running = fetchTo({ [where]: join(disk, 'place') });
    while (hub.cdn.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await fill(1_000_000);
    opened.resolve();
    const { exitCode, stderr } = await running;
    expect([exitCode, stderr]).toEqual([7, expect.stringContaining('ENOSPC')]);
    expect(await heldModels(join(disk, 'place'))).toEqual([]);
    await rm(join(disk, 'ballast'));
    const again = await fetchTo({ [where]: join(disk, 'place') });
    expect(again.exitCode, again.stderr).toBe(0);
    expect((await heldModels(join(disk, 'place'))).map(({ faults }) => faults)).toEqual([[]]);
  });
});

describe('a disk that takes bytes and loses them', () => {
  /** Its file system believes in more room than there is below: writes succeed, and only a flush hears that they failed. */
  let lossy: string;
  let below: string;
  let usable = false;
  beforeEach(async () => {
    [below, lossy] = [join(dir, 'below'), join(dir, 'lossy')];
    for (const folder of [below, lossy]) await mkdir(folder);
    const steps = [
      `mount -t tmpfs -o size=7m tmpfs ${below}`,
      `truncate -s 200M ${below}/image`,
      `mkfs.ext4 -q -O ^has_journal -E lazy_itable_init=1,nodiscard ${below}/image`,
      `mount -o loop ${below}/image ${lossy}`,
    ];
    usable = steps.every((step) => spawnSync('sh', ['-c', step]).status === 0);
  });
  afterEach(() => {
    for (const folder of [lossy, below]) spawnSync('umount', ['-l', folder]);
  });

  test('is noticed by download and fetch: no manifest stands for what was lost', { timeout: 60_000 }, async ({ skip }) => {
    if (!usable) skip('mounting a loop device needs root');
    const large = tinyLlama({ shardBytes: 5_000_000 });
    hub.addRepo({ id: 'acme/model', files: large });
    const lost = [7, expect.stringMatching(/ENOSPC|EIO/)];
    const downloaded = await downloadTo(join(lossy, 'a'));
    expect([downloaded.exitCode, downloaded.stderr]).toEqual(lost);
    expect(await heldModels(join(lossy, 'a'))).toEqual([]);
    await rm(join(lossy, 'a'), { recursive: true });
    const fetched = await fetchTo({ MODEL_DIR: join(lossy, 'b') });
    expect([fetched.exitCode, fetched.stderr]).toEqual(lost);
    expect(await heldModels(join(lossy, 'b'))).toEqual([]);
  });

  test('is noticed while a large file still comes: the system tells it once, we keep it', { timeout: 60_000 }, async ({ skip }) => {
    if (!usable) skip('mounting a loop device needs root');
    const file = await PartialFile.open(join(lossy, 'file'), 0);
    const part = Buffer.alloc(16 * 1024 ** 2, 7);
    // So many bytes are left to the disk before it is told to write, with nobody waiting.
    for (let offset = 0; offset < 4 * part.length; offset += part.length) await file.append(part, offset);
    const lost = { code: expect.stringMatching(/ENOSPC|EIO/) };
    await expect(file.flush()).rejects.toMatchObject(lost);
    await expect(file.append(part, 4 * part.length)).rejects.toMatchObject(lost);
    await file.close();
  });
});

describe('compress and fetch', () => {
  test('on a disk that may only be read are denied, and nothing is asked twice', async ({ skip }) => {
    if (!mounted) skip('mounting a tmpfs needs root');
    await fillWorkspace(join(disk, 'workspace'), contents, { repo: 'acme/model' });
    await mkdir(join(disk, 'model'));
    spawnSync('mount', ['-o', 'remount,ro', disk]);
    const ended = [
      await compressIn(join(disk, 'workspace'), 'fp8-dynamic'),
      await compressIn(join(disk, 'workspace'), 'archive'),
      await fetchTo({ WORKSPACE: join(disk, 'workspace') }),
      await fetchTo({ MODEL_DIR: join(disk, 'model') }),
    ];
    spawnSync('mount', ['-o', 'remount,rw', disk]);
    for (const { exitCode, stderr } of ended) expect([exitCode, stderr]).toEqual([4, expect.stringContaining('EROFS')]);
  });

  test('whose workspace vanishes say so, and the next run begins again', { timeout: 60_000 }, async () => {
    const opened = Promise.withResolvers<void>();
    hub.cdn.fail({ on: /./, times: 99, hold: opened.promise });
    const place = join(dir, 'place');
    const running = fetchTo({ WORKSPACE: place });
    while (hub.cdn.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await rm(place, { recursive: true, maxRetries: 5 });
    opened.resolve();
    const fetched = await running;
    expect([fetched.exitCode, fetched.stderr]).toEqual([5, expect.stringContaining('failed to')]);
    expect((await fetchTo({ WORKSPACE: place })).exitCode).toBe(0);

    for (const method of ['fp8-dynamic', 'archive']) {
      const workspace = join(dir, method);
      await fillWorkspace(workspace, contents, { repo: 'acme/model' });
      const program = new Program('compress', ['--method', method, '--log-level', 'debug'], { WORKSPACE: workspace });
      const started = Promise.withResolvers<void>();
      program.child.stderr?.on('data', (text: Buffer) => text.includes('compress started') && started.resolve());
      await started.promise;
      await rm(workspace, { recursive: true, force: true, maxRetries: 5 });
      const { exitCode, stderr } = await program.ended;
      // It may have been through before.
      if (exitCode !== 0)
        expect([exitCode, stderr]).toEqual([expect.toSatisfy((code) => [3, 5].includes(code)), expect.stringContaining('failed to')]);
      await fillWorkspace(workspace, contents, { repo: 'acme/model' });
      const again = await compressIn(workspace, method);
      expect(again.exitCode, again.stderr).toBe(0);
    }
  });

  test('never follow links that lead out of the folder, for reading or for writing', async () => {
    const outside = join(dir, 'outside');
    await mkdir(outside);
    for (const method of ['fp8-dynamic', 'archive']) {
      for (const name of ['model-00001-of-00002.safetensors', 'config.json', 'README.md']) {
        const workspace = join(dir, `${method}-${name}`);
        const { filesDir } = await fillWorkspace(workspace, contents, { repo: 'acme/model' });
        await rename(join(filesDir, name), join(outside, name));
        await symlink(join(outside, name), join(filesDir, name));
        const { exitCode, stderr } = await compressIn(workspace, method);
        expect([exitCode, stderr], name).toEqual([7, expect.stringContaining(`${name}: it is a link that leads out`)]);
      }
      const workspace = join(dir, method);
      const { dir: folder } = await fillWorkspace(workspace, contents, { repo: 'acme/model' });
      const made = `${folder}-${method}`;
      const victim = join(outside, 'victim');
      await writeFile(victim, 'precious');
      await mkdir(join(made, 'partial'), { recursive: true });
      for (const name of ['model.tar.zst', 'model.tar.zst.json', 'plan', ...Object.keys(contents)])
        await symlink(victim, join(made, 'partial', name));
      await compressIn(workspace, method);
      expect(await readFile(victim, 'utf8')).toBe('precious');
      for (const part of ['partial', 'files']) {
        await rm(made, { recursive: true });
        await mkdir(made);
        await symlink(outside, join(made, part));
        const before = await readdir(outside);
        const { exitCode, stderr } = await compressIn(workspace, method);
        expect([exitCode, stderr], part).toEqual([7, expect.stringContaining('it is no folder of ours')]);
        expect(await readdir(outside)).toEqual(before);
      }
    }
  });

  test('--fill publishes no file that changed behind the back of its manifest', async () => {
    const store = join(dir, 'store');
    const env = { WORKSPACE: join(dir, 'place'), STORE_DIR: store };
    const first = await fetchTo(env);
    const path = join(first.results.path ?? '', 'model-00001-of-00002.safetensors');
    // To the nanosecond, as a time that is kept along with other bytes is.
    const keepTime = (from: string, to: string) => spawnSync('touch', ['-r', from, to]);
    keepTime(path, join(dir, 'time'));
    const changed = await readFile(path);
    changed[1_000_000] = 255 - (changed[1_000_000] ?? 0);
    await writeFile(path, changed);
    keepTime(join(dir, 'time'), path);
    const second = await fetchTo({ ...env, FILL: 'true' });
    expect([second.exitCode, second.results.filled, second.stderr]).toEqual([0, 'false', expect.stringContaining('model-00001')]);
    expect(await manifestsIn(store)).toEqual([]);
  });
});

describe('a workspace', () => {
  test('that vanishes under a download is no bug of ours, and the next run begins again', async () => {
    const opened = Promise.withResolvers<void>();
    hub.cdn.fail({ on: /./, times: 99, hold: opened.promise });
    const workspace = join(dir, 'workspace');
    const running = downloadTo(workspace);
    while (hub.cdn.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await rm(workspace, { recursive: true, maxRetries: 5 });
    opened.resolve();
    const { exitCode, stderr } = await running;
    expect([exitCode, stderr]).toEqual([5, expect.stringContaining('failed to')]);
    expect((await downloadTo(workspace)).exitCode).toBe(0);
  });

  test('whose file changes between the manifest and the upload is integrity, and nothing is published', async () => {
    const { filesDir } = await fillWorkspace(dir, contents, { repo: 'acme/model' });
    const path = [...files.keys()].find((name) => name.endsWith('.safetensors')) ?? '';
    const changed = Buffer.from(contents[path] ?? []);
    changed[2_000_000] = 255 - (changed[2_000_000] ?? 0);
    await writeFile(join(filesDir, path), changed);
    const { exitCode, stderr } = await uploadFrom(dir, join(dir, 'store'));
    expect([exitCode, stderr]).toEqual([6, expect.stringContaining(path)]);
    expect(await manifestsIn(join(dir, 'store'))).toEqual([]);
  });
});
