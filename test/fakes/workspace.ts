import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Manifest, makeManifest, manifestBytes } from '../../lib/manifest.ts';
import { modelFolder, writeAtomically } from '../../lib/workspace.ts';

const everything = { allowPatterns: [], ignorePatterns: [], profile: 'all' };

/** Puts a model into a workspace as download leaves it. */
export async function fillWorkspace(
  workspace: string,
  files: Record<string, Buffer>,
  { repo = 'acme/tiny', commit = 'a'.repeat(40) } = {},
): Promise<{ manifest: Manifest; dir: string; filesDir: string }> {
  const folder = modelFolder(workspace, repo, commit, everything);
  for (const [path, bytes] of Object.entries(files)) {
    const target = join(folder.files, path);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, bytes);
  }
  const list = Object.entries(files).map(([path, bytes]) => ({
    path,
    size: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  }));
  const manifest = makeManifest({ source: { repo, commit }, selection: everything, files: list });
  await writeAtomically(folder.source, JSON.stringify({ url: 'http://hub', license: 'apache-2.0' }));
  await writeAtomically(folder.manifest, manifestBytes(manifest));
  return { manifest, dir: folder.dir, filesDir: folder.files };
}
