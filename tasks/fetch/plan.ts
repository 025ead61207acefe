import type { Hub } from '../../lib/hub/connection.ts';
import { listFiles } from '../../lib/hub/list.ts';
import { RemoteFile } from '../../lib/hub/remote-file.ts';
import type { ModelInfo } from '../../lib/hub/resolve.ts';
import { sourceRecord } from '../../lib/hub/source-record.ts';
import { type Expected, sha256Of } from '../../lib/integrity.ts';
import type { RangeReader } from '../../lib/local/bring.ts';
import { type Manifest, type ManifestFile, makeManifest, manifestBytes, type Selection } from '../../lib/manifest.ts';
import { checkPaths } from '../../lib/paths.ts';
import type { Found } from '../../lib/publish/catalog.ts';
import { controlKeys } from '../../lib/publish/control.ts';
import { selectFiles, selectPart } from '../../lib/selection.ts';
import type { Store } from '../../lib/store.ts';
import { type ModelFolder, modelFolder } from '../../lib/workspace.ts';
import type { RequestParams } from './request.ts';

/** A model that is about to be brought, from wherever. */
export interface Plan {
  origin: 's3' | 'hub';
  /** In the store; empty where there is none. */
  uri: string;
  source: Manifest['source'];
  files: readonly Expected[];
  open: (file: Expected) => RangeReader;
  /** The manifest of these files, once every sha256 is known. */
  finish: (files: ManifestFile[]) => { manifest: Manifest; bytes: Buffer };
  sourceRecord: Uint8Array | string | undefined;
  /** Its folder in a workspace. */
  folderIn: (workspace: string) => ModelFolder;
}

type Chosen = Pick<RequestParams, 'allowPatterns' | 'ignorePatterns' | 'profile' | 'select'>;

/** What a selection is called in a manifest: a part of a model is another selection than all of it. */
function selectionOf({ allowPatterns, ignorePatterns, profile, select }: Chosen): Selection {
  return { allowPatterns, ignorePatterns, profile: select === 'all' ? profile : `${profile}/${select}` };
}

/** A published model: its own manifest when all of it is wanted, so that every copy has the same one. */
export async function planFromStore(store: Store, found: Found, chosen: Chosen, controlPrefix: string): Promise<Plan> {
  const { manifest: published, prefix } = found;
  const files = selectPart(selectFiles(published.files, chosen), chosen.select);
  const { source, derived } = published;
  const whole = files.length === published.files.length;
  const part = () => makeManifest({ source, selection: selectionOf(chosen), files, ...(derived ? { derived } : {}) });
  const manifest = whole ? published : part();
  const bytes = whole ? found.bytes : manifestBytes(manifest);
  const suffix = derived === undefined ? '' : `-${derived.method}-${sha256Of(JSON.stringify(derived)).slice(0, 8)}`;
  return {
    origin: 's3',
    uri: `${store.uri}/${prefix}/`,
    source,
    files,
    open: ({ path }) => ({
      async read(offset, into, onBytes, signal) {
        await store.getRange(`${prefix}/${path}`, offset, into, { onBytes, signal });
      },
    }),
    finish: () => ({ manifest, bytes }),
    sourceRecord: (await store.get(controlKeys(controlPrefix, prefix).source))?.bytes,
    folderIn: (workspace) => modelFolder(workspace, source.repo, source.commit, manifest.selection, suffix),
  };
}

/** A model on the Hub, at the commit that was resolved. */
export async function planFromHub(hub: Hub, repo: string, revision: string, info: ModelInfo, chosen: Chosen): Promise<Plan> {
  const { commit } = info;
  const files = selectPart(selectFiles(await listFiles(hub, repo, commit), chosen), chosen.select);
  checkPaths(files.map(({ path }) => path));
  const source = { repo, commit };
  const selection = selectionOf(chosen);
  return {
    origin: 'hub',
    uri: '',
    source,
    files,
    open: (file) => new RemoteFile(hub, repo, commit, file),
    finish: (brought) => {
      const manifest = makeManifest({ source, selection, files: brought });
      return { manifest, bytes: manifestBytes(manifest) };
    },
    sourceRecord: sourceRecord(hub, repo, revision, info),
    folderIn: (workspace) => modelFolder(workspace, repo, commit, selection),
  };
}
