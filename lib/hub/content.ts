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
  const asked = (value: Selection) => JSON.stringify([value.allowPatterns, value.ignorePatterns, value.profile]);
  const { repo, commit } = published.source;
  if (repo === source.repo && commit === source.commit && asked(published.selection) === asked(selection)) return true;
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

async function readDigest({ hub, source }: HubModel, file: Expected): Promise<string> {
  const bytes = Buffer.allocUnsafe(file.size);
  if (file.size > 0) await new RemoteFile(hub, source.repo, source.commit, file).read(0, bytes, () => {}, hub.signal);
  const verifier = new Verifier(file);
  verifier.update(bytes);
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
