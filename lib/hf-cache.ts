import { randomUUID } from 'node:crypto';
import { mkdir, readFile, readlink, realpath, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { explain } from './errors.ts';
import { makeFolder } from './folders.ts';
import { type Manifest, manifestSha256 } from './manifest.ts';
import { safeJoin, writeAtomically } from './workspace.ts';

/**
 * Makes a model that lies in `filesDir` one of huggingface_hub's cache at `hfHome` (its HF_HOME): links in
 * `hub/models--org--repo/snapshots/<commit>`, and the revision in `refs/`, so that it is found by its name with HF_HUB_OFFLINE=1
 * (huggingface_hub, "Understand caching"). Links are relative, so that a volume may be mounted elsewhere. A compressed model has other
 * bytes than its commit: it gets a snapshot of its own, named by its manifest. Returns the snapshot's folder.
 */
export async function linkIntoCache(hfHome: string, filesDir: string, manifest: Manifest, revision: string): Promise<string> {
  const { repo, commit } = manifest.source;
  const snapshotId = manifest.derived === undefined ? commit : manifestSha256(manifest).slice(0, 40);
  try {
    await makeFolder(hfHome);
    // Real paths: on the way from one to the other, .. means the folder that is really above.
    const root = join(await realpath(hfHome), 'hub', `models--${repo.replaceAll('/', '--')}`);
    const snapshot = join(root, 'snapshots', snapshotId);
    const files = await realpath(filesDir);
    for (const { path } of manifest.files) await linkTo(safeJoin(files, path), safeJoin(snapshot, path));
    const refs = join(root, 'refs');
    if (revision !== commit) await writeAtomically(safeJoin(refs, revision), snapshotId);
    // Who names no revision means main: any version that is here is better than none.
    const main = await readFile(join(refs, 'main'), 'utf8').catch(() => undefined);
    if (main === undefined) await writeAtomically(join(refs, 'main'), snapshotId);
    return snapshot;
  } catch (error) {
    throw explain(`link the model into ${hfHome}`, error);
  }
}

/** A symlink that appears at once or not at all; one that leads there already stays. */
async function linkTo(target: string, path: string): Promise<void> {
  const lead = relative(dirname(path), target);
  if ((await readlink(path).catch(() => undefined)) === lead) return;
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    await symlink(lead, temporary);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}
