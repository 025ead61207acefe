import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Manifest } from '../../lib/manifest.ts';
import type { Certificate } from '../fakes/certificate.ts';
import { type Files, sha256Of } from '../fakes/content.ts';
import { FakeHub, type HubOptions } from '../fakes/hub.ts';
import { tinyLlama } from '../fakes/model.ts';
import { FakeRegistry } from '../fakes/registry.ts';
import { FakeS3, type FakeS3Options } from '../fakes/s3.ts';
import { filesBelow, type HeldModel, heldModels } from './folders.ts';

export type StoreKind = 's3' | 'folder';

/** Bytes that may be on their way at a kill, with the MAX_MEMORY below: part buffers, and a request's own. */
export const inFlightBytes = 20 * 1024 ** 2;

export const bucket = 'models';
export const prefix = 'model-data/target/v1';
/** Two models that may fight for one target. */
export const repos = ['acme/one', 'acme/two'] as const;
export type RepoId = (typeof repos)[number];
const manifestKey = `.modelferry/manifests/${prefix}.json`;

export interface ArenaOptions {
  tls?: Certificate | undefined;
  s3?: FakeS3Options | undefined;
}

/** Servers, folders and two models of one round: nobody else works in them. */
export class Arena {
  readonly hub: FakeHub;
  readonly s3: FakeS3;
  readonly registry = new FakeRegistry();
  readonly models: ReadonlyMap<string, Files>;
  /** The smaller model that a run makes which nobody hits, by its source: every other run must make the same. */
  readonly references = new Map<string, HeldModel>();
  readonly kind: StoreKind;
  readonly dir: string;
  readonly partSize: number;

  /** Given to every program, over all else. */
  readonly more: Record<string, string> = {};
  /** What programs are run by, if anything. */
  via: readonly string[] = [];
  readonly hubOptions: HubOptions = {};

  private constructor(kind: StoreKind, dir: string, shardBytes: number, { s3 }: ArenaOptions) {
    this.hub = new FakeHub(this.hubOptions);
    this.s3 = new FakeS3(s3);
    this.kind = kind;
    this.dir = dir;
    this.partSize = kind === 's3' ? 5 * 1024 ** 2 : 1024 ** 2;
    this.models = new Map(repos.map((repo, index) => [repo, tinyLlama({ seed: index + 1, shardBytes })]));
  }

  static async open(kind: StoreKind, shardBytes: number, options: ArenaOptions = {}): Promise<Arena> {
    const arena = new Arena(kind, await mkdtemp(join(tmpdir(), 'torture-')), shardBytes, options);
    const { tls } = options;
    const listen = tls ? { tls } : {};
    await Promise.all([arena.hub.listen(listen), arena.s3.listen(listen), arena.registry.listen(listen)]);
    if (tls) {
      arena.more.CA_BUNDLE = join(arena.dir, 'ca.pem');
      await writeFile(arena.more.CA_BUNDLE, tls.cert);
    }
    arena.s3.createBucket(bucket);
    for (const [id, files] of arena.models) arena.hub.addRepo({ id, files });
    await mkdir(arena.storeDir);
    return arena;
  }

  async close(): Promise<void> {
    await Promise.all([this.hub.close(), this.s3.close(), this.registry.close()]);
    await rm(this.dir, { recursive: true, force: true });
  }

  get storeDir(): string {
    return join(this.dir, 'store');
  }

  get uri(): string {
    return this.kind === 's3' ? `s3://${bucket}/${prefix}/` : `file://${this.storeDir}/${prefix}/`;
  }

  workspace(name: string): string {
    return join(this.dir, `workspace-${name}`);
  }

  /** What every program is given. */
  get env(): Record<string, string> {
    const { accessKeyId, secretAccessKey } = this.s3.credentials;
    const store: Record<string, string> =
      this.kind === 's3'
        ? { S3_BUCKET: bucket, S3_ENDPOINT: this.s3.origin, AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey }
        : { STORE_DIR: this.storeDir };
    return {
      ...store,
      HF_ENDPOINT: this.hub.origin,
      MODEL_NAME: 'target',
      MODEL_VERSION: 'v1',
      PART_SIZE: String(this.partSize),
      CONCURRENCY: '4',
      // Buffers of 16 MiB: what is on its way when a kill comes.
      MAX_MEMORY: '170MiB',
      STALL_TIMEOUT: '20s',
      WAIT_TIMEOUT: '60s',
      LOG_LEVEL: 'debug',
      ...this.more,
    };
  }

  /** Every key of the store (a folder's own records too), with its bytes read on demand. */
  async keys(): Promise<Map<string, () => Promise<Buffer>>> {
    if (this.kind === 's3') {
      const object = (key: string) => async () => (await this.s3.object(bucket, key)?.bytes()) ?? Buffer.alloc(0);
      return new Map(this.s3.keys(bucket).map((key) => [key, object(key)]));
    }
    const paths = await filesBelow(this.storeDir);
    return new Map(paths.map((path) => [path, () => readFile(join(this.storeDir, path))]));
  }

  /** The manifest that readers find now, and the digest of its bytes. */
  async published(): Promise<{ manifest: Manifest; sha256: string } | undefined> {
    const bytes = await (await this.keys()).get(manifestKey)?.();
    return bytes && { manifest: JSON.parse(bytes.toString('utf8')) as Manifest, sha256: sha256Of(bytes) };
  }

  /** The digests of all files of the model that a manifest is about, by path; undefined when it is about none of ours. */
  digestsOf({ source, derived }: Manifest): Map<string, string> | undefined {
    if (derived) {
      const reference = this.references.get(source.repo);
      return reference && new Map(reference.manifest.files.map(({ path, sha256 }) => [path, sha256]));
    }
    const model = this.models.get(source.repo);
    return model && new Map([...model].map(([path, content]) => [path, sha256Of(content)]));
  }

  /** What is wrong with what is published: nothing when nothing is. */
  async wrongBytes(): Promise<string[]> {
    const published = await this.published();
    if (published === undefined) return [];
    const { manifest, sha256 } = published;
    const { repo } = manifest.source;
    const digests = this.digestsOf(manifest);
    if (digests === undefined) return [`the manifest names ${repo}, ${manifest.derived?.method ?? 'as it is'}`];
    const keys = await this.keys();
    const faults: string[] = [];
    if (manifest.derived && this.references.get(repo)?.sha256 !== sha256) faults.push('the manifest is not that of a run that nobody hits');
    const named = manifest.files.map(({ path }) => path).sort();
    if (named.join() !== [...digests.keys()].sort().join()) faults.push(`the manifest names ${named.join()}`);
    for (const [path, digest] of digests) {
      const bytes = await keys.get(`${prefix}/${path}`)?.();
      if (bytes === undefined) faults.push(`${path} is published and missing`);
      else if (sha256Of(bytes) !== digest) faults.push(`${path} is published with wrong bytes`);
      if (digestIn(manifest, path) !== digest) faults.push(`${path} has a wrong digest in the manifest`);
    }
    return faults;
  }

  /** What lies in the store that a finished run has no use for. */
  async leftInStore(): Promise<string[]> {
    const published = await this.published();
    const digests = published && this.digestsOf(published.manifest);
    const files = [...(digests?.keys() ?? [])].map((path) => `${prefix}/${path}`);
    const records = published ? ['manifests', 'source', 'stored'].map((kind) => `.modelferry/${kind}/${prefix}.json`) : [];
    const own = '.modelferry/folder-store';
    const sides = this.kind === 'folder' ? [...files, ...records].map((key) => `${own}/objects/${key}.json`) : [];
    const wanted = new Set([...files, ...records, ...sides, `${own}/locks/`, `${own}/tmp/`]);
    const uploads = this.s3.uploads(bucket).map(({ key }) => `upload of ${key}`);
    return [...[...(await this.keys()).keys()].filter((key) => !wanted.has(key)), ...uploads];
  }

  /** What is wrong with the models that a folder says it holds. What was published while it was made need not lie there. */
  async wrongLocally(name: string): Promise<string[]> {
    const faults: string[] = [];
    for (const { folder, manifest, sha256, faults: own, wrong, report } of await heldModels(this.workspace(name))) {
      const isElsewhere = manifest.derived !== undefined && (await this.published())?.sha256 === sha256;
      faults.push(...(isElsewhere ? wrong : own).map((fault) => `${name}: ${fault}`));
      const { repo } = manifest.source;
      if (manifest.derived) {
        const reference = this.references.get(repo);
        if (reference?.sha256 !== sha256) faults.push(`${name}: ${folder} is not what a run makes that nobody hits`);
        if (report !== undefined && report !== reference?.report)
          faults.push(`${name}: ${folder} has another report than such a run writes`);
      } else if ([...(this.digestsOf(manifest) ?? [['', '']])].some(([path, digest]) => digestIn(manifest, path) !== digest)) {
        faults.push(`${name}: ${folder} is not ${repo}`);
      }
    }
    return faults;
  }

  /** Bytes of model files that the store was sent, and that the Hub and its CDN gave. */
  get moved(): { sent: number; got: number } {
    const toModel = this.s3.requests.filter(({ method, url }) => method === 'PUT' && url.startsWith(`/${bucket}/${prefix}/`));
    return { sent: toModel.reduce((sum, { bytesIn }) => sum + bytesIn, 0), got: this.hub.servedBytes };
  }
}

function digestIn({ files }: Manifest, path: string): string | undefined {
  return files.find((file) => file.path === path)?.sha256;
}
