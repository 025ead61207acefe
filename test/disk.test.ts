import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { download } from '../tasks/download/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { bytesOf } from './fakes/content.ts';
import { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { runInProcess } from './fakes/program.ts';
import { fillWorkspace } from './fakes/workspace.ts';

const files = tinyLlama({ shardBytes: 3_000_000 });
const contents = Object.fromEntries([...files].map(([path, content]) => [path, bytesOf(content)]));
const diskBytes = 10 * 1024 ** 2;

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

describe('a workspace', () => {
  test('that vanishes under a download is no bug of ours, and the next run begins again', async () => {
    const opened = Promise.withResolvers<void>();
    hub.cdn.fail({ on: /./, times: 99, hold: opened.promise });
    const workspace = join(dir, 'workspace');
    const running = downloadTo(workspace);
    while (hub.cdn.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await rm(workspace, { recursive: true });
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
