import { createHash } from 'node:crypto';
import {
  CreateBucketCommand,
  type CreateBucketCommandInput,
  DeleteBucketLifecycleCommand,
  GetBucketEncryptionCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
  GetPublicAccessBlockCommand,
  HeadBucketCommand,
  type LifecycleRule,
  ListObjectsV2Command,
  PutBucketEncryptionCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketVersioningCommand,
  PutPublicAccessBlockCommand,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { kindOf, StepError } from '../errors.ts';
import { regionOf } from '../s3-settings.ts';
import type { S3Connection } from './connection.ts';
import { isUnexplained } from './errors.ts';
import { isReplaced, type OwnRules, rulesOf, sameRules, withFilter } from './lifecycle.ts';

/** `done`: it is so now; `already`: it was; `not-supported`: this store has no such thing, or takes it and forgets it; `wanted`: a dry run would. */
export type Outcome = 'done' | 'already' | 'not-supported' | 'wanted';

export interface Encryption {
  algorithm: 'AES256' | 'aws:kms' | 'aws:kms:dsse';
  kmsKeyId?: string | undefined;
}

/** How to see a setting, and to change it. */
interface Setting<State> {
  what: string;
  read: () => Promise<State>;
  isRight: (state: State) => boolean;
  write: (state: State) => Promise<unknown>;
}

/**
 * What a bucket itself is told: each method looks first, changes only what differs, and looks again, because stores exist that answer 200
 * to what they do not know. All throw StepError (`denied`, `transient`, ...), but for what this store does not have.
 */
export class BucketSettings {
  readonly #s3: S3Connection;
  readonly #dryRun: boolean;

  constructor(connection: S3Connection, dryRun = false) {
    this.#s3 = connection;
    this.#dryRun = dryRun;
  }

  /** Makes the bucket unless it is there. Throws `denied` when it is another's. */
  async create(): Promise<'done' | 'already' | 'wanted'> {
    const { bucket, options } = this.#s3;
    const head = () => this.#s3.send('look at the bucket', (client, sent) => client.send(new HeadBucketCommand({ Bucket: bucket }), sent));
    try {
      await head();
      return 'already';
    } catch (error) {
      // HEAD has no body that could say why; the answer to a listing has.
      if (isUnexplained(error)) {
        const MaxKeys = 1;
        await this.#s3.send('look at the bucket', (client, sent) =>
          client.send(new ListObjectsV2Command({ Bucket: bucket, MaxKeys }), sent),
        );
        return 'already';
      }
      if (kindOf(error) !== 'not-found') throw error;
    }
    if (this.#dryRun) return 'wanted';
    const region = await regionOf(options.settings);
    const input: CreateBucketCommandInput = { Bucket: bucket };
    // AWS wants the region said, but for the first one; others have names of their own for places.
    if (options.settings.aws && region !== 'us-east-1') input.CreateBucketConfiguration = { LocationConstraint: region as never };
    try {
      await this.#s3.send('make the bucket', (client, sent) => client.send(new CreateBucketCommand(input), sent));
      return 'done';
    } catch (error) {
      const code = codeOf(error);
      // Another run was quicker, or an answer was lost.
      if (code === 'BucketAlreadyOwnedByYou') return 'already';
      if (code !== 'BucketAlreadyExists') throw error;
      throw new StepError('denied', `failed to make the bucket s3://${bucket}: somebody else has one of that name`, { cause: error });
    }
  }

  /** Keeps every version of an object. */
  async versioning(): Promise<Outcome> {
    const VersioningConfiguration = { Status: 'Enabled' as const };
    return await this.#settle({
      what: 'versioning',
      read: async () =>
        (await this.#s3.send('see versioning', (client, sent) => client.send(new GetBucketVersioningCommand(this.#bucket), sent))).Status,
      isRight: (status) => status === 'Enabled',
      write: () =>
        this.#s3.send('turn versioning on', (client, sent) =>
          client.send(withMd5(new PutBucketVersioningCommand({ ...this.#bucket, VersioningConfiguration })), sent),
        ),
    });
  }

  /** Encrypts what is put, unless it is encrypted already: a key of somebody's choice is changed only for `exactly` another. */
  async encryption({ algorithm, kmsKeyId }: Encryption, { exactly }: { exactly: boolean }): Promise<Outcome> {
    const rule = { SSEAlgorithm: algorithm, ...(kmsKeyId === undefined ? {} : { KMSMasterKeyID: kmsKeyId }) };
    const Rules = [{ ApplyServerSideEncryptionByDefault: rule, ...(algorithm === 'aws:kms' ? { BucketKeyEnabled: true } : {}) }];
    return await this.#settle({
      what: 'encryption',
      read: async () => {
        const answer = await this.#s3.orUndefined(() =>
          this.#s3.send('see encryption', (client, sent) => client.send(new GetBucketEncryptionCommand(this.#bucket), sent)),
        );
        return answer?.ServerSideEncryptionConfiguration?.Rules?.[0]?.ApplyServerSideEncryptionByDefault;
      },
      isRight: (found) => {
        if (found?.SSEAlgorithm === undefined || !exactly) return found?.SSEAlgorithm !== undefined;
        return found.SSEAlgorithm === algorithm && (kmsKeyId === undefined || found.KMSMasterKeyID === kmsKeyId);
      },
      write: () =>
        this.#s3.send('set encryption', (client, sent) =>
          client.send(withMd5(new PutBucketEncryptionCommand({ ...this.#bucket, ServerSideEncryptionConfiguration: { Rules } })), sent),
        ),
    });
  }

  /** Lets no policy or list of rights make anything in the bucket public. */
  async blockPublicAccess(): Promise<Outcome> {
    const wanted = { BlockPublicAcls: true, IgnorePublicAcls: true, BlockPublicPolicy: true, RestrictPublicBuckets: true };
    return await this.#settle({
      what: 'public access block',
      read: async () => {
        const answer = await this.#s3.orUndefined(() =>
          this.#s3.send('see the public access block', (client, sent) => client.send(new GetPublicAccessBlockCommand(this.#bucket), sent)),
        );
        return answer?.PublicAccessBlockConfiguration;
      },
      isRight: (found) => Object.keys(wanted).every((name) => found?.[name as keyof typeof wanted] === true),
      write: () =>
        this.#s3.send('block public access', (client, sent) =>
          client.send(withMd5(new PutPublicAccessBlockCommand({ ...this.#bucket, PublicAccessBlockConfiguration: wanted })), sent),
        ),
    });
  }

  /** Sets the lifecycle rules of one purpose (0 days: there are to be none) and leaves everybody else's as they are. */
  async lifecycle(own: OwnRules): Promise<Outcome> {
    return await this.#settle<LifecycleRule[]>({
      what: `lifecycle rules ${own.purpose}`,
      read: async () => {
        const answer = await this.#s3.orUndefined(() =>
          this.#s3.send('see lifecycle rules', (client, sent) =>
            client.send(new GetBucketLifecycleConfigurationCommand(this.#bucket), sent),
          ),
        );
        return answer?.Rules ?? [];
      },
      isRight: (rules) => sameRules(rulesOf(own), rules.filter(isReplaced(own))),
      write: async (rules) => {
        const Rules = [...rules.filter((rule) => !isReplaced(own)(rule)).map(withFilter), ...rulesOf(own)];
        await this.#s3.send('set lifecycle rules', async (client, sent) => {
          // A document without rules is malformed.
          if (Rules.length === 0) return void (await client.send(new DeleteBucketLifecycleCommand(this.#bucket), sent));
          const LifecycleConfiguration = { Rules };
          await client.send(withMd5(new PutBucketLifecycleConfigurationCommand({ ...this.#bucket, LifecycleConfiguration })), sent);
        });
      },
    });
  }

  get #bucket() {
    return { Bucket: this.#s3.bucket };
  }

  async #settle<State>({ what, read, isRight, write }: Setting<State>): Promise<Outcome> {
    const { log } = this.#s3.options;
    try {
      const found = await read();
      if (isRight(found)) return 'already';
      if (this.#dryRun) return 'wanted';
      await write(found);
      if (isRight(await read())) return 'done';
      log.debug({ what }, 'the store takes this setting, and does not keep it');
      return 'not-supported';
    } catch (error) {
      if (!isNotSupported(error)) throw error;
      log.debug({ what, error }, 'the store does not have this setting');
      return 'not-supported';
    }
  }
}

/**
 * True for what says that the store does not have this: by name or status, or because it took the request for another one (a PUT on a
 * bucket that makes it), or refused a document that S3's own definition allows. VersioningNotConfigured is versitygw's.
 */
export function isNotSupported(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  const status = cause instanceof S3ServiceException ? cause.$metadata.httpStatusCode : undefined;
  return status === 501 || status === 405 || notSupported.test(codeOf(error) ?? '');
}

const notSupported =
  /^(NotImplemented|MethodNotAllowed|VersioningNotConfigured|MalformedXML|BucketAlreadyOwnedByYou|BucketAlreadyExists|UnsupportedOperation|XNotImplemented)$/;

function codeOf(error: unknown): string | undefined {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error ? cause.name : undefined;
}

/** Older stores know no other digest of these documents, and S3 wants one. */
function withMd5<Command extends object>(command: Command): Command {
  const { middlewareStack } = command as unknown as PutBucketVersioningCommand;
  middlewareStack.add(
    (next) => (args) => {
      const { headers, body } = args.request as { headers: Record<string, string>; body?: string | Uint8Array };
      headers['content-md5'] = createHash('md5')
        .update(body ?? '')
        .digest('base64');
      return next(args);
    },
    { step: 'build', name: 'contentMd5' },
  );
  return command;
}
