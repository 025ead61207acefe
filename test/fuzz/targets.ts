import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { pino } from 'pino';
import { StepError } from '../../lib/errors.ts';
import { hubOf } from '../../lib/hub/connection.ts';
import { listFiles } from '../../lib/hub/list.ts';
import { resolveRevision } from '../../lib/hub/resolve.ts';
import { makeManifest, manifestBytes, parseManifest } from '../../lib/manifest.ts';
import { schema } from '../../lib/params/declare.ts';
import { s3Params } from '../../lib/params/groups/store.ts';
import { readParams } from '../../lib/params/read.ts';
import { checkPaths, pathFault } from '../../lib/paths.ts';
import { bytesOfBuffer } from '../../lib/policy/bytes.ts';
import { inspect } from '../../lib/policy/inspect.ts';
import { Registry } from '../../lib/registry/registry.ts';
import { S3Connection } from '../../lib/s3/connection.ts';
import { S3Store } from '../../lib/s3/store.ts';
import { s3Settings } from '../../lib/s3-settings.ts';
import { tarEnd, tarHeader, tarPadding } from '../../lib/tar.ts';
import { commands } from '../../tasks/index.ts';
import type { Random } from '../torture/random.ts';
import { type Json, mutateJson, mutateText } from './mutate.ts';

/** One thing that reads what others wrote. `run` may throw a StepError; what else it throws is a bug, and so is what it says is wrong. */
export interface Target {
  name: string;
  run(random: Random): Promise<void>;
  close?: () => Promise<void>;
}

const log = pino({ level: 'silent' });
const signal = new AbortController().signal;
const sha256 = 'a'.repeat(64);
const commit = 'b'.repeat(40);

/** A server whose every answer is what was set last. */
class Says {
  type = 'application/json';
  body = '';
  status = 200;
  readonly #server: Server = createServer((request, response) => {
    request.resume();
    response.writeHead(this.status, { 'content-type': this.type, 'content-length': Buffer.byteLength(this.body) });
    response.end(this.body);
  });

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

export async function makeTargets(): Promise<Target[]> {
  // The longest first, for who runs them side by side.
  return [parameters(), await s3Answers(), await hubListings(), await hubModels(), await registryAnswers(), manifests(), pickles()];
}

function parameters(): Target {
  const words = [
    'acme/model',
    '',
    '--',
    '-',
    '--help',
    '=',
    '1e9',
    '64MiB',
    '-5',
    '\u0000',
    '../..',
    '[',
    '["a","b"]',
    '{}',
    'true',
    'ünï',
    'x'.repeat(3000),
    '$(id)',
  ];
  return {
    name: 'parameters',
    async run(random) {
      const { params } = random.pick(commands);
      const names = Object.keys(params.properties);
      const flag = () => `--${random.pick(names).replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
      const argv = Array.from({ length: random.between(0, 8) }, () => {
        const word = random.pick(words);
        return random.pick([flag(), `${flag()}=${word}`, word, `--no-${flag().slice(2)}`, mutateText(random, flag())]);
      });
      const env = Object.fromEntries(
        Array.from({ length: random.between(0, 4) }, () => [flag().slice(2).replaceAll('-', '_').toUpperCase(), random.pick(words)]),
      );
      readParams(params, { argv: argv.filter((word) => !/credentials-dir|file/i.test(word)), env: { ...env, S3_CREDENTIALS_DIR: '' } });
    },
  };
}

function manifests(): Target {
  const files = ['config.json', 'sub/model.safetensors'].map((path, index) => ({ path, size: index * 10, sha256 }));
  const selection = { allowPatterns: [], ignorePatterns: [], profile: 'all' as const };
  const text = manifestBytes(makeManifest({ source: { repo: 'acme/model', commit }, selection, files })).toString('utf8');
  return {
    name: 'manifests',
    async run(random) {
      const raw = random.chance(0.5) ? mutateText(random, text) : JSON.stringify(mutateJson(random, JSON.parse(text)));
      const manifest = parseManifest(Buffer.from(raw), 'the-manifest');
      if (manifest.files.some(({ path, size }) => pathFault(path) !== undefined || size < 0))
        throw new Error(`taken: ${raw.slice(0, 300)}`);
    },
  };
}

function pickles(): Target {
  const text =
    '\x80\x04\x95\x20\0\0\0\0\0\0\0}\x94(\x8c\x02os\x94\x8c\x06system\x94\x93\x94K\x01\x85\x94R\x94cbuiltins\neval\nq\x01X\x03\0\0\0abcu.PK\x05\x06\0\0\0\0\x01\0\x01\0\x30\0\0\0\x01\0\0\0\0\0';
  return {
    name: 'pickles and archives',
    async run(random) {
      const pickle = Buffer.from(mutateText(random, text), 'latin1');
      const tar = () =>
        Buffer.concat([tarHeader('a/data.pkl', pickle.length), pickle, tarPadding(pickle.length), tarHeader('b/é', 0), tarEnd()]);
      const forms = [() => pickle, tar, () => gzipSync(tar()), () => deflateSync(pickle), () => zstdCompressSync(pickle)];
      const bytes = forms[random.between(0, forms.length - 1)]?.() ?? pickle;
      for (let flips = random.between(0, 3); flips > 0 && bytes.length > 0; flips -= 1) {
        bytes[random.between(0, bytes.length - 1)] = random.between(0, 255);
      }
      await inspect(bytesOfBuffer(bytes), random.chance(0.5) ? 'model.pkl' : 'model.tar.gz');
    },
  };
}

async function hubListings(): Promise<Target> {
  const says = new Says();
  const hub = hubOf({ hubUrl: await says.listen(), retries: 0, stallTimeout: 5000 }, { log, signal });
  const entries: Json[] = [
    { type: 'file', oid: commit, size: 12, path: 'config.json' },
    { type: 'directory', oid: commit, size: 0, path: 'sub' },
    { type: 'file', oid: commit, size: 130, path: 'sub/model.safetensors', lfs: { oid: sha256, size: 5000, pointerSize: 130 } },
  ];
  return {
    name: 'Hub listings',
    close: () => says.close(),
    async run(random) {
      says.body = random.chance(0.3) ? mutateText(random, JSON.stringify(entries)) : JSON.stringify(mutateJson(random, entries));
      const files = await listFiles(hub, 'acme/model', commit);
      checkPaths(files.map(({ path }) => path));
      const wrong = files.find(({ size, sha256: sha, gitSha1 }) => !(size >= 0) || (sha === undefined && gitSha1 === undefined));
      if (wrong) throw new Error(`taken: ${JSON.stringify(wrong)}`);
    },
  };
}

async function hubModels(): Promise<Target> {
  const says = new Says();
  const hub = hubOf({ hubUrl: await says.listen(), retries: 0, stallTimeout: 5000 }, { log, signal });
  const model = {
    id: 'acme/model',
    sha: commit,
    gated: false,
    private: false,
    tags: ['license:mit'],
    cardData: { license: 'mit', language: ['en'] },
  };
  return {
    name: 'Hub models',
    close: () => says.close(),
    async run(random) {
      says.body = random.chance(0.3) ? mutateText(random, JSON.stringify(model)) : JSON.stringify(mutateJson(random, model));
      const info = await resolveRevision(hub, 'acme/model', 'main');
      if (!/^[0-9a-f]{40}$/.test(info.commit)) throw new Error(`taken: ${info.commit}`);
    },
  };
}

async function s3Answers(): Promise<Target> {
  const says = new Says();
  const env = { S3_BUCKET: 'bucket', S3_ENDPOINT: await says.listen(), S3_ACCESS_KEY_ID: 'key', S3_SECRET_ACCESS_KEY: 'secret' };
  const { values } = readParams(schema(s3Params), { argv: [], env });
  const store = new S3Store(
    new S3Connection({ settings: s3Settings(values), checksum: 'sha256', retries: 0, stallTimeout: 5000, signal, log }),
  );
  const upload = { key: 'a/b', uploadId: 'id' };
  const head = '<?xml version="1.0" encoding="UTF-8"?>';
  const calls: { text: string; call: () => Promise<unknown> }[] = [
    {
      text: `${head}<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated><Contents><Key>a/b</Key><Size>5</Size><ETag>"x"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>`,
      call: async () => {
        let pages = 0;
        for await (const { size } of store.list('a/')) {
          if (typeof size !== 'number') throw new Error('a size is no number');
          if (++pages > 10) return;
        }
      },
    },
    {
      text: `${head}<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload><Key>a/b</Key><UploadId>id</UploadId><Initiated>2026-01-01T00:00:00.000Z</Initiated></Upload></ListMultipartUploadsResult>`,
      call: () => store.listMultiparts('a/'),
    },
    {
      text: `${head}<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber><Size>5</Size><ETag>"x"</ETag></Part></ListPartsResult>`,
      call: () => store.listParts(upload),
    },
    {
      text: `${head}<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>a/b</Key><UploadId>id</UploadId></InitiateMultipartUploadResult>`,
      call: () => store.beginMultipart('a/b', { size: 5, partSize: 5 }),
    },
    {
      text: `${head}<CompleteMultipartUploadResult><ETag>"x-1"</ETag></CompleteMultipartUploadResult>`,
      call: () => store.completeMultipart(upload, [{ number: 1, etag: 'x' }], 5),
    },
    { text: `${head}<Error><Code>NoSuchKey</Code><Message>not there</Message></Error>`, call: () => store.get('a/b') },
  ];
  says.type = 'application/xml';
  return {
    name: 'S3 answers',
    close: () => says.close(),
    async run(random) {
      const { text, call } = random.pick(calls);
      says.status = random.pick([200, 200, 200, 404, 400, 403, 412, 500, 301]);
      says.body = mutateText(random, text);
      await call();
    },
  };
}

async function registryAnswers(): Promise<Target> {
  const says = new Says();
  const registry = new Registry({ url: await says.listen(), token: undefined, retries: 0, stallTimeout: 5000, signal, log });
  const entry = {
    id: '1',
    name: 'model',
    externalId: 'hf:acme/model',
    state: 'LIVE',
    uri: 's3://a/b/',
    registeredModelId: '1',
    customProperties: {},
  };
  const page = { items: [entry], size: 1, pageSize: 100, nextPageToken: '' };
  return {
    name: 'registry answers',
    close: () => says.close(),
    async run(random) {
      const value = random.pick([entry, page]);
      says.status = random.pick([200, 200, 201, 404, 409, 500]);
      says.body = random.chance(0.3) ? mutateText(random, JSON.stringify(value)) : JSON.stringify(mutateJson(random, value));
      const kind = random.pick(['model', 'version', 'artifact'] as const);
      await random.pick([
        () => registry.find(kind, 'model', '1'),
        () => registry.findByExternalId(kind, 'hf:acme/model'),
        () => registry.list(kind, '1'),
      ])();
    },
  };
}

/** What is wrong with how a case ended; undefined when nothing is. */
export function faultOf(error: unknown): string | undefined {
  if (!(error instanceof StepError)) {
    if (error instanceof Error && error.name === 'PreconditionFailed') return undefined;
    return `no StepError: ${error instanceof Error ? error.stack : String(error)}`;
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\u0000-\u001f]/.test(error.message)) return `control characters in ${JSON.stringify(error.message)}`;
  if (error.message.length > 20_000) return `a message of ${error.message.length} characters`;
  return /^failed to /.test(error.message) ? undefined : `a message of another form: ${error.message}`;
}
