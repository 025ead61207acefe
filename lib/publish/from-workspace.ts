import type { Terms } from '../dry-run.ts';
import { messageOf } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import { checkServing } from '../lint/gate.ts';
import { lintProfileOf } from '../lint/lint.ts';
import { lintFolder } from '../lint/local.ts';
import { openFilesOf } from '../local/open-file.ts';
import type { Log } from '../log.ts';
import type { ManifestFile, Selection } from '../manifest.ts';
import type { GroupValues } from '../params/declare.ts';
import type { lintParams } from '../params/groups/publishing.ts';
import type { transferParams } from '../params/groups/transfer.ts';
import { checkContent, checkKnown, type Policy } from '../policy/policy.ts';
import type { Progress } from '../progress.ts';
import type { Store } from '../store.ts';
import { Budget } from '../transfer/budget.ts';
import { BufferPool, bufferBytes } from '../transfer/buffers.ts';
import type { ModelFolder } from '../workspace.ts';
import type { SendFile } from './options.ts';
import { makeSender, type SenderOptions } from './send.ts';

/** A model in a workspace, before it is published. */
export interface Candidate {
  files: readonly Expected[];
  selection: Selection;
  folder: ModelFolder;
  /** Where it is to lie: for messages. */
  uri: string;
}

/** A file reader, as far as a disk goes: it gives more than one reader takes, and a part read ahead is memory taken. */
export const diskReads = 2;

export interface FolderSender {
  store: Store;
  open: SenderOptions['open'];
  progress: Progress;
}

/** Sends files of a folder. */
export function folderSender(
  { store, open, progress }: FolderSender,
  { partSize, maxMemory, concurrency }: Pick<GroupValues<typeof transferParams>, 'partSize' | 'maxMemory' | 'concurrency'>,
): SendFile {
  return makeSender({
    store,
    open,
    partSize,
    connections: new Budget(concurrency),
    sources: new Budget(diskReads),
    buffers: new BufferPool(bufferBytes(maxMemory, concurrency)),
    progress,
  });
}

/** Throws `refused` when the policy forbids a model, by the licence in its source.json and by its files' names. */
export function checkTerms(
  { files, source }: { files: readonly Expected[]; source: Uint8Array | undefined },
  policy: Policy,
  log: Log,
): void {
  checkKnown(policy, { license: termsOf(source).license, paths: files.map(({ path }) => path) }, log);
}

/** Looks at a model in a folder before it is published; `read` are the files whose bytes are looked into. Throws `refused` as checkFolder and the policy do. */
export async function inspectFolder(
  candidate: Candidate,
  read: readonly ManifestFile[],
  params: Policy & GroupValues<typeof lintParams> & Pick<GroupValues<typeof transferParams>, 'concurrency'>,
  { signal, log }: { signal: AbortSignal; log: Log },
): Promise<void> {
  await checkFolder(candidate, params, log);
  const byPath = new Map(read.map((file) => [file.path, file]));
  const openFile = openFilesOf(candidate.folder.files);
  const open = (path: string) => openFile(byPath.get(path) as ManifestFile);
  await checkContent({ policy: params, files: read, open, concurrency: params.concurrency, signal, log });
}

/** Says what may keep a server from a model in a folder. Throws `refused` as checkServing does. */
export async function checkFolder(
  { files, selection, folder, uri }: Candidate,
  { lint }: GroupValues<typeof lintParams>,
  log: Log,
): Promise<void> {
  const findings = () =>
    lintFolder(folder.files, files, lintProfileOf({ selection })).catch((error: unknown) => {
      // What cannot be read, the upload itself will tell.
      log.debug({ error: messageOf(error) }, 'not linted');
      return [];
    });
  await checkServing(findings, { lint, uri, log });
}

/** The terms in source.json; none where it is missing or not as we write it. */
export function termsOf(source: Uint8Array | undefined): Terms {
  try {
    const { license, gated, private: secret } = JSON.parse(source ? Buffer.from(source).toString('utf8') : '{}') as Terms;
    return {
      ...(typeof license === 'string' && { license }),
      ...((gated === 'auto' || gated === 'manual' || gated === false) && { gated }),
      ...(typeof secret === 'boolean' && { private: secret }),
    };
  } catch {
    return {};
  }
}
