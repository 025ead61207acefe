import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  CopyObjectCommand,
  type CopyObjectCommandInput,
  DeleteObjectCommand,
  GetBucketEncryptionCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  type GetObjectCommandInput,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
} from '@aws-sdk/client-s3';
import { crc32Base64 } from '../../lib/s3/checksums.ts';
import { leaveUnsigned, S3Connection } from '../../lib/s3/connection.ts';
import { copySource } from '../../lib/s3/values.ts';
import { PreconditionFailed } from '../../lib/store.ts';
import { answerOf, type Findings, type Verdict } from './findings.ts';

const bytes = Buffer.from('modelferry asks what this store can do');
const other = Buffer.from('other bytes');
const nobodysEtag = `"${createHash('md5').update('nobody').digest('hex')}"`;

/** Asks about single objects, below that prefix: each question is a request or two with a body of a few bytes. */
export async function askObjects(s3: S3Connection, prefix: string, found: Findings): Promise<void> {
  const object = new ProbeObject(s3, `${prefix}/object`);
  const written = await found.ask('read-write', async () => {
    await object.put({ Metadata: { probe: 'kept' } });
    const head = await object.head();
    return head?.Metadata?.probe === 'kept' && (await object.get()).equals(bytes);
  });
  if (written !== 'yes') return;
  await found.ask('range', async () => (await object.get({ Range: 'bytes=3-9' })).equals(bytes.subarray(3, 10)));
  await askDigests(object, found);
  await askConditions(object, found);
  await askCopies(s3, object, `${prefix}/copy`, found);
  await found.ask('tags', async () => {
    await object.put({ Tagging: 'probe=kept' });
    const answer = await s3.send('read tags', (client, sent) => client.send(new GetObjectTaggingCommand(object.place), sent));
    return answer.TagSet?.some(({ Key, Value }) => Key === 'probe' && Value === 'kept') === true;
  });
  await askEncryption(s3, object, found);
  await found.ask('versioning', async () => {
    const answer = await s3.send('see versioning', (client, sent) =>
      client.send(new GetBucketVersioningCommand({ Bucket: s3.bucket }), sent),
    );
    return { verdict: answer.Status === 'Enabled', detail: answer.Status ?? 'never turned on' };
  });
}

/** What protects bytes on the wire: a digest that is wrong on purpose must be refused. */
async function askDigests(object: ProbeObject, found: Findings): Promise<void> {
  await found.ask('checksum-header', async () => {
    const wrong = await object.refusal({ ChecksumCRC32: crc32Base64(other) }, leaveUnsigned);
    if (wrong === undefined) return { verdict: false, detail: 'a wrong x-amz-checksum-crc32 is taken' };
    const right = await object.refusal({ ChecksumCRC32: crc32Base64(bytes) }, leaveUnsigned);
    return right === undefined ? true : { verdict: false, detail: right };
  });
  await found.ask('payload-sha256', async () => {
    const wrong = await object.refusal({}, (command) =>
      setHeader(command, 'x-amz-content-sha256', createHash('sha256').update(other).digest('hex')),
    );
    return wrong === undefined ? { verdict: false, detail: 'a wrong x-amz-content-sha256 is taken' } : true;
  });
  await found.ask('checksum-trailer', async () => {
    await object.put({ Body: Readable.from([bytes]), ContentLength: bytes.length, ChecksumAlgorithm: 'CRC32' });
    return (await object.get()).equals(bytes) ? true : { verdict: false, detail: 'aws-chunked ends up in the object' };
  });
}

/** Conditions that fail on purpose; and then whether the object really is as it was, because some stores ignore them. */
async function askConditions(object: ProbeObject, found: Findings): Promise<void> {
  await object.put({});
  await found.ask('put-if-absent', async () => await object.isPrecondition({ IfNoneMatch: '*' }));
  await found.ask('put-if-match', async () => {
    const { ETag } = await object.put({});
    if (!(await object.isPrecondition({ IfMatch: nobodysEtag }))) return false;
    return (await object.refusal({ IfMatch: ETag })) === undefined;
  });
  await found.ask('delete-if-match', async () => {
    await object.put({});
    const refused = await preconditionOf(() => object.delete(nobodysEtag));
    return refused && (await object.head()) !== undefined;
  });
}

async function askCopies(s3: S3Connection, object: ProbeObject, key: string, found: Findings): Promise<void> {
  const source = await object.put({});
  const copy = new ProbeObject(s3, key);
  const input: CopyObjectCommandInput = {
    ...copy.place,
    CopySource: copySource(s3.bucket, object.place.Key),
    MetadataDirective: 'REPLACE',
    ...s3.encryption(),
    Metadata: { probe: 'copied' },
  };
  const run = (more: Partial<CopyObjectCommandInput>) =>
    s3.send('copy an object', (client, sent) => client.send(new CopyObjectCommand({ ...input, ...more }), sent));
  await found.ask('copy', async () => {
    await run({ CopySourceIfMatch: source.ETag });
    return (await copy.head())?.Metadata?.probe === 'copied' && (await copy.get()).equals(bytes);
  });
  await found.ask('copy-if-match', () => preconditionOf(() => run({ CopySourceIfMatch: nobodysEtag })));
}

/** Which encryption is taken, told by the answer's own header. */
async function askEncryption(s3: S3Connection, object: ProbeObject, found: Findings): Promise<void> {
  const { sse, kmsKeyId } = s3.options.settings;
  const ask = async (check: string, input: Partial<PutObjectCommandInput>): Promise<Verdict> =>
    await found.ask(check, async () => {
      const answer = await object.put(input);
      const { ServerSideEncryption: used, SSEKMSKeyId: key } = answer;
      if (used === undefined) return { verdict: false, detail: 'taken, but not said to be done' };
      return { verdict: used === input.ServerSideEncryption, detail: key === undefined ? used : `${used} ${key}` };
    });
  await found.ask('default-encryption', async () => {
    const answer = await s3.orUndefined(() =>
      s3.send('see encryption', (client, sent) => client.send(new GetBucketEncryptionCommand({ Bucket: s3.bucket }), sent)),
    );
    const rule = answer?.ServerSideEncryptionConfiguration?.Rules?.[0]?.ApplyServerSideEncryptionByDefault;
    return rule?.SSEAlgorithm === undefined ? false : { verdict: true, detail: rule.SSEAlgorithm };
  });
  await ask('sse-s3', { ServerSideEncryption: 'AES256', SSEKMSKeyId: undefined });
  const kms = sse?.startsWith('aws:kms') ? sse : 'aws:kms';
  await ask('sse-kms', { ServerSideEncryption: kms, ...(kmsKeyId === undefined ? {} : { SSEKMSKeyId: kmsKeyId }) });
}

/** One small object that is put again and again. */
class ProbeObject {
  readonly place: { Bucket: string; Key: string };
  readonly #s3: S3Connection;

  constructor(s3: S3Connection, key: string) {
    this.#s3 = s3;
    this.place = { Bucket: s3.bucket, Key: key };
  }

  async put(input: Partial<PutObjectCommandInput>, prepare: (command: PutObjectCommand) => void = () => {}) {
    return await this.#s3.send('put an object', async (client, sent) => {
      const command = new PutObjectCommand({ Body: bytes, ContentLength: bytes.length, ...this.#s3.encryption(), ...input, ...this.place });
      prepare(command);
      return await client.send(command, sent);
    });
  }

  /** The code that a put is refused with; undefined when it is taken. Asked once: what is wrong on purpose stays wrong. */
  async refusal(input: Partial<PutObjectCommandInput>, prepare?: (command: PutObjectCommand) => void): Promise<string | undefined> {
    const once = new ProbeObject(new S3Connection({ ...this.#s3.options, retries: 0 }), this.place.Key);
    try {
      await once.put(input, prepare);
      return undefined;
    } catch (error) {
      if (error instanceof PreconditionFailed) return 'PreconditionFailed';
      const { status, code } = answerOf(error);
      if (code === undefined || (status !== 400 && status !== 501)) throw error;
      return code;
    }
  }

  async isPrecondition(input: Partial<PutObjectCommandInput>): Promise<boolean> {
    return await preconditionOf(() => this.put(input));
  }

  async head() {
    return await this.#s3.orUndefined(() =>
      this.#s3.send('look at an object', (client, sent) => client.send(new HeadObjectCommand(this.place), sent)),
    );
  }

  async get(input: Partial<GetObjectCommandInput> = {}): Promise<Buffer> {
    return await this.#s3.send('get an object', async (client, sent) => {
      const answer = await client.send(new GetObjectCommand({ ...input, ...this.place }), sent);
      return Buffer.from((await answer.Body?.transformToByteArray()) ?? []);
    });
  }

  async delete(etag: string): Promise<unknown> {
    const input = { ...this.place, IfMatch: etag };
    return await this.#s3.send('delete an object', (client, sent) => client.send(new DeleteObjectCommand(input), sent));
  }
}

/** True when the condition failed, false when there was no failure at all. */
async function preconditionOf(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return false;
  } catch (error) {
    if (error instanceof PreconditionFailed) return true;
    throw error;
  }
}

function setHeader(command: PutObjectCommand, name: string, value: string): void {
  command.middlewareStack.add(
    (next) => (args) => {
      (args.request as { headers: Record<string, string> }).headers[name] = value;
      return next(args);
    },
    { step: 'build', name: 'setHeader' },
  );
}
