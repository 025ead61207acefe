import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import type { S3Connection } from '../../lib/s3/connection.ts';
import { copySource } from '../../lib/s3/values.ts';
import { answerOf, type Findings } from './findings.ts';

const MiB = 1024 * 1024;
/** S3's own smallest part (user guide, "Amazon S3 multipart upload limits"). */
const usualPart = 5 * MiB;

/** Asks about uploads in parts, below that prefix. Sends some 5 MiB. Expects `<prefix>/object` to be there. */
export async function askMultiparts(s3: S3Connection, prefix: string, found: Findings): Promise<void> {
  const upload = await Upload.begin(s3, `${prefix}/parts`);
  try {
    await upload.put(1, Buffer.alloc(usualPart));
    await found.ask('list-uploads', async () => {
      const answer = await s3.send('list uploads', (client, sent) =>
        client.send(new ListMultipartUploadsCommand({ Bucket: s3.bucket, Prefix: upload.place.Key }), sent),
      );
      return answer.Uploads?.some(({ UploadId }) => UploadId === upload.place.UploadId) === true;
    });
    await found.ask('list-parts', async () => {
      const answer = await s3.send('list parts', (client, sent) => client.send(new ListPartsCommand(upload.place), sent));
      return answer.Parts?.length === 1 && answer.Parts[0]?.Size === usualPart;
    });
    const copied = await found.ask('part-copy', async () => await upload.copy(2, `${prefix}/object`));
    if (copied !== 'yes') await upload.put(2, Buffer.from('the last part'));
    await found.ask('multipart', async () => ((await upload.complete()) ?? 0) > usualPart);
  } catch (error) {
    if (found.verdict('multipart') === 'unknown') await found.ask('multipart', () => Promise.reject(error));
  } finally {
    await upload.drop();
  }
  await askSmallest(s3, `${prefix}/small-parts`, found);
}

/** Whether parts under 5 MiB are taken; told as the smallest part that is surely right. */
async function askSmallest(s3: S3Connection, key: string, found: Findings): Promise<void> {
  await found.ask('small-parts', async () => {
    const upload = await Upload.begin(s3, key);
    try {
      await upload.put(1, Buffer.alloc(1024));
      await upload.put(2, Buffer.from('the last part'));
      await upload.complete();
      return true;
    } catch (error) {
      if (answerOf(error).code !== 'EntityTooSmall') throw error;
      return { verdict: false, detail: 'parts are 5 MiB or more' };
    } finally {
      await upload.drop();
    }
  });
}

class Upload {
  readonly place: { Bucket: string; Key: string; UploadId: string };
  readonly #s3: S3Connection;
  readonly #parts: { PartNumber: number; ETag: string | undefined }[] = [];
  #completed = false;

  private constructor(s3: S3Connection, place: Upload['place']) {
    this.#s3 = s3;
    this.place = place;
  }

  static async begin(s3: S3Connection, key: string): Promise<Upload> {
    const place = { Bucket: s3.bucket, Key: key };
    const answer = await s3.send('begin an upload', (client, sent) =>
      client.send(new CreateMultipartUploadCommand({ ...place, ...s3.encryption() }), sent),
    );
    return new Upload(s3, { ...place, UploadId: answer.UploadId ?? '' });
  }

  async put(number: number, bytes: Buffer): Promise<void> {
    const input = { ...this.place, PartNumber: number, Body: bytes, ContentLength: bytes.length };
    const answer = await this.#s3.send('send a part', (client, sent) => client.send(new UploadPartCommand(input), sent));
    this.#parts.push({ PartNumber: number, ETag: answer.ETag });
  }

  async copy(number: number, key: string): Promise<boolean> {
    const input = { ...this.place, PartNumber: number, CopySource: copySource(this.#s3.bucket, key) };
    const answer = await this.#s3.send('copy a part', (client, sent) => client.send(new UploadPartCopyCommand(input), sent));
    const ETag = answer.CopyPartResult?.ETag;
    if (ETag !== undefined) this.#parts.push({ PartNumber: number, ETag });
    return ETag !== undefined;
  }

  /** Bytes of the object that came of it. */
  async complete(): Promise<number | undefined> {
    const input = { ...this.place, MultipartUpload: { Parts: this.#parts } };
    await this.#s3.send('complete an upload', (client, sent) => client.send(new CompleteMultipartUploadCommand(input), sent));
    this.#completed = true;
    const { Bucket, Key } = this.place;
    return (await this.#s3.send('look at an object', (client, sent) => client.send(new HeadObjectCommand({ Bucket, Key }), sent)))
      .ContentLength;
  }

  /** Ends it unless it is completed; what cannot be ended is the bucket's rules to clean up. */
  async drop(): Promise<void> {
    if (this.#completed) return;
    const s3 = this.#s3.detached(AbortSignal.timeout(10_000), 1);
    await s3.send('end an upload', (client, sent) => client.send(new AbortMultipartUploadCommand(this.place), sent)).catch(() => {});
  }
}
