import { type Expected, sha256Of, Verifier } from '../integrity.ts';
import { type Manifest, makeManifest, type Selection } from '../manifest.ts';
import type { Content } from '../publish/content.ts';
import type { ByteSource } from '../publish/send.ts';
import { mapLimited } from '../transfer/pool.ts';
import type { Hub } from './connection.ts';
import { RemoteFile } from './remote-file.ts';

export interface HubModel {
  hub: Hub;
  source: Manifest['source'];
  selection: Selection;
  files: readonly Expected[];
  concurrency: number;
}

/** A model on the Hub as something to publish: what the listing does not tell shows when the bytes pass. */
export function hubContent(model: HubModel): Content {
  const { source, selection, files } = model;
  return {
    files,
    commit: source.commit,
    digest: sha256Of(JSON.stringify([source, selection, files.map(({ path, size, sha256, gitSha1 }) => [path, size, sha256 ?? gitSha1])])),
    isSame: (published) => isSame(model, published),
    manifestOf: (brought) => makeManifest({ source, selection, files: brought }),
  };
}

/** A commit names its bytes. Another commit may have the same ones too: then the few small files that have no sha256 in the listing are read. */
async function isSame(model: HubModel, published: Manifest): Promise<boolean> {
  const { source, selection, files } = model;
  if (published.derived !== undefined) return false;
  if (isOfSource(published, source, selection)) return true;
  const there = new Map(published.files.map((file) => [file.path, file]));
  const alike = ({ path, size, sha256 }: Expected) => {
    const file = there.get(path);
    return file?.size === size && (sha256 === undefined || file.sha256 === sha256);
  };
  if (files.length !== there.size || !files.every(alike)) return false;
  const unknown = files.filter((file) => file.sha256 === undefined);
  const digests = await mapLimited(unknown, model.concurrency, (file) => readDigest(model, file));
  return unknown.every((file, index) => there.get(file.path)?.sha256 === digests[index]);
}

/** Opens a file of the model by its path, which the listing must have. */
export function openerOf(model: HubModel): (path: string) => Promise<ByteSource> {
  const byPath = new Map(model.files.map((file) => [file.path, file]));
  return async (path) => hubBytes(model, byPath.get(path) as Expected);
}

/** True when a published model is of these files of that commit, or made of them: a commit names its bytes. */
export function isOfSource({ source: { repo, commit }, selection }: Manifest, source: Manifest['source'], asked: Selection): boolean {
  const patterns = (value: Selection) => JSON.stringify([value.allowPatterns, value.ignorePatterns, value.profile]);
  return repo === source.repo && commit === source.commit && patterns(selection) === patterns(asked);
}

/** The manifest of a model on the Hub, as download writes it: the few small files that have no sha256 in the listing are read. */
export async function hubManifest(model: HubModel): Promise<Manifest> {
  const { source, selection, concurrency } = model;
  const files = await mapLimited(model.files, concurrency, async (file) => {
    return { path: file.path, size: file.size, sha256: file.sha256 ?? (await readDigest(model, file)) };
  });
  return makeManifest({ source, selection, files });
}

const digestPiece = 4 * 1024 ** 2;

/** The sha256 of a file, read in pieces. Throws `integrity` when its bytes are not those of the listing. */
async function readDigest({ hub, source }: HubModel, file: Expected): Promise<string> {
  const remote = new RemoteFile(hub, source.repo, source.commit, file);
  const verifier = new Verifier(file);
  const buffer = Buffer.allocUnsafe(Math.min(file.size, digestPiece));
  for (let offset = 0; offset < file.size; offset += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, file.size - offset));
    await remote.read(offset, piece, () => {}, hub.signal);
    verifier.update(piece);
  }
  return verifier.finish();
}

/** The bytes of one file on the Hub, for a sender. */
export function hubBytes({ hub, source }: Pick<HubModel, 'hub' | 'source'>, file: Expected): ByteSource {
  const remote = new RemoteFile(hub, source.repo, source.commit, file);
  return {
    read: (offset, into, signal) => remote.read(offset, into, () => {}, signal),
    close: async () => {},
  };
}
