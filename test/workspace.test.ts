import { mkdir, mkdtemp, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeFolder } from '../lib/folders.ts';
import { checkCollisions, localFiles } from '../lib/local/files.ts';
import { makeManifest, manifestBytes, manifestSha256 } from '../lib/manifest.ts';
import { checkFreeSpace, findManifest, modelFolder, safeJoin, writeAtomically } from '../lib/workspace.ts';
import { compress } from '../tasks/compress/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { runInProcess } from './fakes/program.ts';
import { fillWorkspace } from './fakes/workspace.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'workspace-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const everything = { allowPatterns: [], ignorePatterns: [], profile: 'all' };
const commit = 'c'.repeat(40);

/** Writes a manifest of a model, that many seconds old. */
async function manifestOf(repo: string, seconds: number): Promise<{ path: string; sha256: string }> {
  const files = [{ path: 'a', size: 3, sha256: 'a'.repeat(64) }];
  const manifest = makeManifest({ source: { repo, commit }, selection: everything, files });
  const path = modelFolder(dir, repo, commit, everything).manifest;
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, manifestBytes(manifest));
  const at = Date.now() / 1000 - seconds;
  await utimes(path, at, at);
  return { path, sha256: manifestSha256(manifest) };
}

describe('the folder of a model', () => {
  test('is named by repository and commit, and by a selection that is not everything', () => {
    expect(modelFolder('/w', 'acme/tiny', commit, everything).dir).toBe(`/w/acme--tiny/${commit}`);
    expect(modelFolder('/w', 'gpt2', commit, everything, '-w4a16').dir).toBe(`/w/gpt2/${commit}-w4a16`);
    const folders = [
      { ...everything, profile: 'vllm' },
      { ...everything, allowPatterns: ['a b'] },
      { ...everything, allowPatterns: ['a', 'b'] },
      { ...everything, ignorePatterns: ['a', 'b'] },
    ].map((selection) => modelFolder('/w', 'a/b', commit, selection).dir);
    expect(new Set(folders).size).toBe(4);
    for (const folder of folders) expect(folder).toMatch(/-s[0-9a-f]{8}$/);
  });

  test('cannot be left', () => {
    expect(safeJoin('/w/files', 'a/b c/ü.txt')).toBe('/w/files/a/b c/ü.txt');
    for (const path of ['../x', 'a/../../x', '/x', 'a\0', '', '.', 'a\\b']) {
      expect(() => safeJoin('/w/files', path), path).toThrow(expect.objectContaining({ kind: 'refused' }));
    }
  });
});

describe('manifests', () => {
  test('the newest is taken, of all or of one model; folders that are not ours are no trouble', async () => {
    const old = await manifestOf('acme/old', 100);
    const fresh = await manifestOf('acme/fresh', 1);
    await mkdir(join(dir, 'lost+found', 'x', 'manifest.json'), { recursive: true });
    await writeFile(join(dir, 'model_s3_uri'), 's3://b/p/');
    await mkdir(join(dir, 'acme--new', commit), { recursive: true });
    await symlink(fresh.path, join(dir, 'acme--new', commit, 'manifest.json'));
    expect(await findManifest(dir, undefined)).toBe(fresh.path);
    expect(await findManifest(dir, undefined, 'acme/old')).toBe(old.path);
    await expect(findManifest(dir, undefined, 'acme/new')).rejects.toMatchObject({ kind: 'not-found' });
    await expect(findManifest(join(dir, 'none'), undefined)).rejects.toMatchObject({ kind: 'not-found' });
  });

  test('one that is named lies in the workspace', async () => {
    const { path } = await manifestOf('acme/tiny', 0);
    expect(await findManifest(dir, path)).toBe(path);
    expect(await findManifest(dir, path.slice(dir.length + 1))).toBe(path);
    await expect(findManifest(dir, '../x/manifest.json')).rejects.toMatchObject({ kind: 'usage' });
    await expect(findManifest(dir, '/etc/passwd')).rejects.toMatchObject({ kind: 'usage' });
  });
});

describe('compress', () => {
  const run = (...argv: string[]) => runInProcess(compress, [`--workspace=${dir}`, ...argv]);

  test('passes the record on', async () => {
    const { path, sha256 } = await manifestOf('acme/tiny', 0);
    await manifestOf('acme/newer', -100);
    const manifest = path.slice(dir.length + 1);
    const ended = await run(`--manifest=${manifest}`, `--manifest-sha256=${sha256}`);
    expect(ended.exitCode, ended.stderr).toBe(0);
    expect(ended.results).toEqual({ manifest, 'manifest-sha256': sha256, commit, 'file-count': '1', 'total-bytes': '3' });
    expect((await run()).results.manifest).toContain('acme--newer');
    expect((await run(`--manifest=${manifest}`, '--method=none', '--skip-tasks=compress')).results).toEqual(ended.results);
  });

  test('refuses a manifest that is not the one asked for, is broken or missing', async () => {
    const { path } = await manifestOf('acme/tiny', 0);
    expect((await run(`--manifest-sha256=${'0'.repeat(64)}`)).exitCode).toBe(6);
    await writeFile(path, '{"schemaVersion":1}');
    expect((await run()).exitCode).toBe(6);
    await rm(path);
    expect((await run()).exitCode).toBe(3);
    expect((await run(`--manifest=${path}`)).exitCode).toBe(3);
    await writeFile(join(dir, 'other.json'), '{}');
    expect((await run('--manifest=other.json')).exitCode).toBe(2);
  });
});

test('a file is written whole or not at all', async () => {
  const path = join(dir, 'a', 'b.json');
  await writeAtomically(path, 'one');
  await writeAtomically(path, Buffer.from('two'));
  expect(await readFile(path, 'utf8')).toBe('two');
  await mkdir(join(dir, 'a', 'folder', 'x'), { recursive: true });
  await expect(writeAtomically(join(dir, 'a', 'folder'), 'x')).rejects.toThrow();
  expect((await readdir(join(dir, 'a'))).sort()).toEqual(['b.json', 'folder']);
});

test('free space is checked before the first byte', async () => {
  await checkFreeSpace(join(dir, 'new'), 1000);
  await expect(checkFreeSpace(dir, 1e18)).rejects.toMatchObject({ kind: 'refused', hint: expect.stringContaining('volume') });
});

describe('local files', () => {
  test('are those wanted, with their sizes; the rest stays or goes, and links are not followed', async () => {
    const files = join(dir, 'files');
    await mkdir(join(files, 'sub', 'deep'), { recursive: true });
    await mkdir(join(dir, 'outside'));
    await writeFile(join(dir, 'outside', 'keep'), 'x');
    await writeFile(join(files, 'a'), '123');
    await writeFile(join(files, 'sub', 'deep', 'b'), '12');
    await writeFile(join(files, 'sub', 'no'), '1');
    await symlink(join(dir, 'outside'), join(files, 'linked'));
    const wanted = ['a', 'sub/deep/b', 'linked/keep', 'missing'];
    const there = new Map([
      ['a', 3],
      ['sub/deep/b', 2],
    ]);
    expect(await localFiles(files, wanted, false)).toEqual(there);
    expect((await readdir(files)).sort()).toEqual(['a', 'linked', 'sub']);
    expect(await localFiles(files, wanted, true)).toEqual(there);
    expect((await readdir(files)).sort()).toEqual(['a', 'sub']);
    expect(await readdir(join(files, 'sub'))).toEqual(['deep']);
    expect(await readdir(join(dir, 'outside'))).toEqual(['keep']);
    expect(await localFiles(join(dir, 'none'), wanted, true)).toEqual(new Map());
  });

  test('names that differ by case are good where the volume tells them apart', async () => {
    await writeFile(join(dir, 'probe-a'), '');
    const knowsCase =
      !(await readdir(dir)).includes('PROBE-A') && (await readFile(join(dir, 'PROBE-A')).catch(() => undefined)) === undefined;
    const check = checkCollisions(dir, ['README.md', 'readme.md', 'A/x', 'a/y', 'config.json']);
    if (knowsCase) await check;
    else await expect(check).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('README.md') });
    expect(await readdir(dir)).toEqual(['probe-a']);
  });
});

describe('a folder that cannot be made', () => {
  test('is told at once, also where the system takes none', async () => {
    const file = join(dir, 'file');
    await writeFile(file, 'mine');
    await expect(makeFolder(file)).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(makeFolder(join(file, 'below', 'it'))).rejects.toMatchObject({ code: 'ENOTDIR' });
    if (process.platform === 'linux') await expect(makeFolder('/proc/none/below')).rejects.toMatchObject({ code: 'ENOENT' });
    await Promise.all([1, 2, 3, 4].map(() => makeFolder(join(dir, 'a', 'b', 'c'))));
    await makeFolder(join(dir, 'a', 'b', 'c'));
    expect((await readdir(dir)).sort()).toEqual(['a', 'file']);
  });

  test('is bad usage, not a bug, where a file lies', async () => {
    await fillWorkspace(join(dir, 'ws'), { 'config.json': Buffer.from('{}') });
    await writeFile(join(dir, 'file'), 'mine');
    const env = { WORKSPACE: join(dir, 'ws'), STORE_DIR: join(dir, 'file') };
    const { exitCode, stderr } = await runInProcess(upload, [], env);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('failed to upload: ENOTDIR');
  });
});
