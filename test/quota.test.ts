import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { kindOf, messageOf } from '../lib/errors.ts';
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
const totalBytes = Object.values(contents).reduce((sum, { length }) => sum + length, 0);

/**
 * A volume whose limit is a quota and not its own size: the only kind that a kernel without quota formats has, and root is held to it. Needs root and mkfs.btrfs
 * (Debian: btrfs-progs).
 */
let volume: string;
let usable = false;
let missing = '';
const run = (command: string, ...args: string[]) => spawnSync(command, args, { encoding: 'utf8' });
beforeAll(async () => {
  volume = await mkdtemp(join(tmpdir(), 'quota-'));
  const image = join(volume, 'image');
  await mkdir(join(volume, 'fs'));
  const steps = [
    ['truncate', '-s', '256M', image],
    ['mkfs.btrfs', '-q', '--mixed', image],
    ['mount', '-o', 'loop', image, join(volume, 'fs')],
    ['btrfs', 'quota', 'enable', join(volume, 'fs')],
    ['btrfs', 'quota', 'rescan', '-w', join(volume, 'fs')],
  ] as const;
  const failed = steps.find(([command, ...args]) => run(command, ...args).status !== 0);
  usable = failed === undefined;
  missing = `a quota needs root, a kernel with btrfs, and btrfs-progs: ${failed?.[0]} failed`;
  if (!usable) console.warn(missing);
});
afterAll(async () => {
  run('umount', '-l', join(volume, 'fs'));
  await rm(volume, { recursive: true });
});

let hub: FakeHub;
/** The folder that the quota is for, new for each test. */
let disk: string;
let count = 0;

/** Lets the folder hold that many bytes, or any number. */
function limit(bytes: number | 'none'): void {
  // What was written so far is counted when it is on the disk.
  run('btrfs', 'filesystem', 'sync', disk);
  const { status, stderr } = run('btrfs', 'qgroup', 'limit', String(bytes), disk);
  expect(status, stderr).toBe(0);
}

const env = () => ({ MODEL_ID: 'acme/model', HF_ENDPOINT: hub.origin, RETRIES: '0' });
const refused = { exitCode: 7, stderr: expect.stringContaining('EDQUOT') };

test.each([
  ['EDQUOT', 'refused', 'EDQUOT: disk quota exceeded, write'],
  ['ESTALE', 'transient', 'ESTALE: stale file handle, write'],
  ['ENOLCK', 'bug', 'ENOLCK, write'],
] as const)('%s, for which Node has no name, is told by it', (name, kind, message) => {
  const code = `Unknown system error -${constants.errno[name]}`;
  const error = Object.assign(new Error(`${code}: ${code}, write`), { code, errno: -constants.errno[name] });
  expect([kindOf(error), messageOf(error)]).toEqual([kind, message]);
});

describe('a quota that is used up', () => {
  beforeEach(async ({ skip }) => {
    if (!usable) skip(missing);
    hub = await new FakeHub().listen();
    hub.addRepo({ id: 'acme/model', files });
    count += 1;
    disk = join(volume, 'fs', `test-${count}`);
    run('btrfs', 'subvolume', 'create', disk);
  });
  afterEach(async () => {
    await hub?.close();
  });

  test.each<[string, typeof download | typeof fetch, string]>([
    ['download', download, 'WORKSPACE'],
    ['fetch into a workspace', fetch, 'WORKSPACE'],
    ['fetch into a folder', fetch, 'MODEL_DIR'],
  ])('under %s: refused, said so, and gone on with where there is room', async (_, step, place) => {
    const start = () => runInProcess(step, [], { ...env(), [place]: join(disk, 'place') });
    limit(4_000_000);
    expect(await start()).toMatchObject(refused);
    expect(await heldModels(join(disk, 'place'))).toEqual([]);
    limit('none');
    const before = hub.servedBytes;
    const again = await start();
    expect(again.exitCode, again.stderr).toBe(0);
    expect(hub.servedBytes - before).toBeLessThan(totalBytes);
    expect((await heldModels(join(disk, 'place'))).map(({ faults }) => faults)).toEqual([[]]);
  });

  test.each(['fp8-dynamic', 'archive'])(
    'under compress --method %s: refused, said so, and gone on with where there is room',
    async (method) => {
      const workspace = join(disk, 'workspace');
      const start = () => new Program('compress', ['--method', method], { WORKSPACE: workspace }).ended;
      await fillWorkspace(workspace, contents, { repo: 'acme/model' });
      // The room that statfs tells of is the volume's: only a write meets the quota.
      limit(totalBytes + 500_000);
      expect(await start()).toMatchObject(refused);
      expect((await heldModels(workspace)).filter(({ manifest }) => manifest.derived)).toEqual([]);
      limit('none');
      const again = await start();
      expect(again.exitCode, again.stderr).toBe(0);
      expect((await heldModels(workspace)).map(({ faults }) => faults)).toEqual([[], []]);
    },
  );

  test('under a folder store: nothing is published until there is room', async () => {
    await fillWorkspace(join(volume, 'fs', `from-${count}`), contents, { repo: 'acme/model' });
    const store = join(disk, 'store');
    const start = () => runInProcess(upload, [], { WORKSPACE: join(volume, 'fs', `from-${count}`), STORE_DIR: store, PART_SIZE: '1MiB' });
    const manifests = async () =>
      (await readdir(store, { recursive: true })).filter((name) => /^\.modelferry\/manifests\/.*json$/.test(name));
    limit(4_000_000);
    expect(await start()).toMatchObject(refused);
    expect(await manifests()).toEqual([]);
    limit('none');
    const again = await start();
    expect(again.exitCode, again.stderr).toBe(0);
    expect((await manifests()).length).toBe(1);
  });
});
