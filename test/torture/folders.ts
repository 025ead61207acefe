import { lstat, readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { sha256Of } from '../../lib/integrity.ts';
import { type Manifest, parseManifest } from '../../lib/manifest.ts';
import { insideName } from '../../lib/workspace.ts';

/** Every file and link below a folder, and every folder that has nothing in it, which ends in a slash. */
export async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true, recursive: true }).catch(() => []);
  const path = (entry: { parentPath: string; name: string }) => join(entry.parentPath, entry.name).slice(dir.length + 1);
  const paths = entries.map(path);
  return entries
    .filter((entry) => !entry.isDirectory() || !paths.some((other) => other.startsWith(`${path(entry)}/`)))
    .map((entry) => (entry.isDirectory() ? `${path(entry)}/` : path(entry)));
}

/** A model that a folder says it holds. */
export interface HeldModel {
  /** Of its records, relative to the workspace. */
  folder: string;
  manifest: Manifest;
  sha256: string;
  /** What is wrong with its files: nothing, or the promise is broken. */
  faults: string[];
  /** The same of those that are there. */
  wrong: string[];
  /** The text of its report, where there is one. */
  report: string | undefined;
}

/** Every model that a workspace or a named folder says it holds, its bytes compared with its manifest. */
export async function heldModels(workspace: string): Promise<HeldModel[]> {
  const paths = (await filesBelow(workspace)).filter(
    (path) => /(^|\/)manifest\.json$/.test(path) && !/\/(files|staging|partial)\//.test(path),
  );
  return await Promise.all(
    paths.map(async (path) => {
      const folder = dirname(path);
      const files = folder === insideName ? workspace : join(workspace, folder, 'files');
      const bytes = await readFile(join(workspace, path));
      const manifest = parseManifest(bytes, path);
      const wrong: string[] = [];
      const missing: string[] = [];
      for (const file of manifest.files) {
        const info = await lstat(join(files, file.path)).catch(() => undefined);
        if (!info?.isFile()) missing.push(`${folder} names ${file.path}, which is not there`);
        else if (sha256Of(await readFile(join(files, file.path))) !== file.sha256) wrong.push(`${folder} has wrong bytes in ${file.path}`);
      }
      const report = await readFile(join(workspace, folder, 'report.json'), 'utf8').catch(() => undefined);
      return { folder, manifest, sha256: sha256Of(bytes), faults: [...missing, ...wrong], wrong, report };
    }),
  );
}

const ofFolder = String.raw`manifest\.json|source\.json|run-id|stamps\.json`;
const inWorkspace = new RegExp(
  String.raw`^(model_s3_uri|model_version_id|\.modelferry/fetched/[0-9a-f]+\.json|acme--(one|two)/[^/]+/(${ofFolder}|report\.(json|html)))$`,
);
const inNamed = new RegExp(String.raw`^\.modelferry/(${ofFolder}|fetched\.json)$`);

/** What lies there besides whole models and their records: nothing when nothing was left behind. */
export async function leftInFolder(workspace: string, named: boolean): Promise<string[]> {
  const models = await heldModels(workspace);
  const placeOf = (folder: string, path: string) => (named ? path : join(folder, 'files', path));
  const files = new Set(models.flatMap(({ folder, manifest }) => manifest.files.map(({ path }) => placeOf(folder, path))));
  const good = (path: string) => files.has(path) || (named ? inNamed : inWorkspace).test(path);
  return (await filesBelow(workspace)).filter((path) => !good(path));
}
