import { DeleteObjectCommand, ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { messageOf } from '../../lib/errors.ts';
import type { S3Connection } from '../../lib/s3/connection.ts';

/** Takes away all that the questions left below a prefix, old versions and delete markers too; also when the run has been ended. Never throws. */
export async function cleanUp(connection: S3Connection, prefix: string): Promise<void> {
  const s3 = connection.detached(AbortSignal.timeout(20_000), 2);
  const { log } = connection.options;
  const remove = async (Key: string, VersionId?: string) => {
    const input = { Bucket: s3.bucket, Key, VersionId };
    await s3.send('delete an object', (client, sent) => client.send(new DeleteObjectCommand(input), sent));
  };
  // First by name: a store without versions may not list them either.
  const names = ['object', 'copy', 'parts', 'small-parts'].map((name) => `${prefix}/${name}`);
  for (const name of names) {
    await remove(name).catch((error) => log.warn({ key: name, error: messageOf(error) }, 'an object of the probe stays behind'));
  }
  try {
    const input = { Bucket: s3.bucket, Prefix: `${prefix}/` };
    const answer = await s3.send('list versions', (client, sent) => client.send(new ListObjectVersionsCommand(input), sent));
    for (const { Key, VersionId } of [...(answer.Versions ?? []), ...(answer.DeleteMarkers ?? [])]) if (Key) await remove(Key, VersionId);
  } catch (error) {
    log.debug({ error: messageOf(error) }, 'old versions of the probe may stay behind');
  }
}
