import { receiveXml } from './body.ts';
import { type Call, expectRoot } from './call.ts';
import { S3Error } from './errors.ts';
import { Bucket } from './state.ts';
import { element, elements, textOf } from './xml.ts';

export const owner = element('Owner', [element('ID', 'fake-s3-owner'), element('DisplayName', 'fake-s3')]);

/** True for names that S3 takes: 3 to 63 of a-z 0-9 - and dots, starting and ending with a letter or digit, and not an IP address. */
export function isBucketName(name: string): boolean {
  return /^[a-z\d][a-z\d.-]{1,61}[a-z\d]$/.test(name) && !name.includes('..') && !/^\d+\.\d+\.\d+\.\d+$/.test(name);
}

/** ListBuckets: every bucket by name, on one page. */
export function listBuckets(call: Call): void {
  const buckets = [...call.world.buckets.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const entries = buckets.map((bucket) => element('Bucket', elements({ Name: bucket.name, CreationDate: bucket.created.toISOString() })));
  call.sendXml(element('ListAllMyBucketsResult', [owner, element('Buckets', entries)]));
}

/** CreateBucket: 409 where it exists already. */
export async function createBucket(call: Call): Promise<void> {
  if (Number(call.header('content-length') ?? 0) > 0) expectRoot(await receiveXml(call), 'CreateBucketConfiguration');
  if (!isBucketName(call.bucketName)) throw new S3Error('InvalidBucketName', { BucketName: call.bucketName });
  if (call.world.buckets.has(call.bucketName)) throw new S3Error('BucketAlreadyOwnedByYou', { BucketName: call.bucketName });
  call.world.buckets.set(call.bucketName, new Bucket(call.bucketName));
  call.send(200, { location: `/${call.bucketName}` });
}

/** HeadBucket: names the region. */
export function headBucket(call: Call): void {
  void call.bucket;
  call.send(200, { 'x-amz-bucket-region': call.settings.region ?? 'us-east-1' });
}

/** DeleteBucket: 409 BucketNotEmpty while versions are in it. */
export function deleteBucket(call: Call): void {
  if (call.bucket.versions.size > 0) throw new S3Error('BucketNotEmpty', { BucketName: call.bucketName });
  call.world.buckets.delete(call.bucketName);
  call.send(204);
}

/** GetBucketLocation: empty for us-east-1. */
export function getBucketLocation(call: Call): void {
  void call.bucket;
  const region = call.settings.region ?? 'us-east-1';
  call.sendXml(element('LocationConstraint', region === 'us-east-1' ? '' : region));
}

/** GetBucketVersioning: no status where it was never set. */
export function getBucketVersioning(call: Call): void {
  call.sendXml(element('VersioningConfiguration', elements({ Status: call.bucket.versioning })));
}

/** PutBucketVersioning: Enabled or Suspended. */
export async function putBucketVersioning(call: Call): Promise<void> {
  const { bucket } = call;
  const status = textOf(expectRoot(await receiveXml(call), 'VersioningConfiguration'), 'Status');
  if (status !== 'Enabled' && status !== 'Suspended') {
    throw new S3Error('IllegalVersioningConfigurationException', { message: 'The Versioning element must be specified' });
  }
  bucket.versioning = status;
  call.send(200);
}
