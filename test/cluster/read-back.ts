import { createHash } from 'node:crypto';
import { CreateBucketCommand, GetObjectCommand, ListMultipartUploadsCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { expect } from 'vitest';
import { type Files, sha256Of } from '../fakes/content.ts';
import { leave } from './report.ts';
import { settings } from './settings.ts';

export const s3Client = new S3Client({
  endpoint: settings.s3.localUrl,
  region: 'us-east-1',
  forcePathStyle: true,
  credentials: { accessKeyId: settings.s3.accessKeyId, secretAccessKey: settings.s3.secretAccessKey },
});

export async function makeBucket(bucket: string): Promise<void> {
  await s3Client.send(new CreateBucketCommand({ Bucket: bucket }));
}

export async function keysOf(bucket: string, prefix = ''): Promise<string[]> {
  const { Contents = [] } = await s3Client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix }));
  return Contents.map(({ Key = '' }) => Key);
}

export async function bytesAt(bucket: string, key: string): Promise<Uint8Array> {
  const { Body } = await s3Client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
  return (await Body?.transformToByteArray()) ?? new Uint8Array();
}

const hex = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

export type Results = Record<string, string>;

export interface RegistryRecord {
  id: string;
  name: string;
  state: string;
  uri: string;
  externalId?: string;
  customProperties?: Record<string, { string_value?: string }>;
}

/** A record of the registry, by its path below the API's base. */
export async function registryRecord(path: string): Promise<RegistryRecord> {
  const response = await fetch(`${settings.registry.localUrl}/api/model_registry/v1alpha3/${path}`);
  if (!response.ok) throw new Error(`registry ${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as RegistryRecord;
}

/**
 * Reads back what a run left and says so in the report: every object's sha256 against the manifest and the repository, nothing else under
 * the prefix, no claim, no open upload, and the registry's records LIVE at the same place.
 */
export async function expectPublished(
  who: string,
  results: Results,
  model: { name: string; files: Files; registered?: boolean },
): Promise<void> {
  const uri = results['model-uri'] ?? '';
  const [, bucket = '', prefix = ''] = /^s3:\/\/([^/]+)\/(.+\/)$/.exec(uri) ?? [];
  expect(prefix, `${who}: ${uri}`).toContain(`/${model.name}/`);

  const manifestBytes = await bytesAt(bucket, `.modelferry/manifests/${prefix.replace(/\/$/, '')}.json`);
  expect(hex(manifestBytes)).toBe(results['manifest-sha256']);
  const manifest = JSON.parse(Buffer.from(manifestBytes).toString()) as {
    files: { path: string; size: number; sha256: string }[];
    source: { commit: string };
  };
  expect(manifest.source.commit).toBe(results.commit);
  expect(Object.fromEntries(manifest.files.map(({ path, sha256 }) => [path, sha256]))).toEqual(
    Object.fromEntries([...model.files].map(([path, content]) => [path, sha256Of(content)])),
  );

  const keys = await keysOf(bucket, prefix);
  expect(keys.sort()).toEqual(manifest.files.map(({ path }) => prefix + path).sort());
  for (const { path, sha256 } of manifest.files) expect(hex(await bytesAt(bucket, prefix + path)), path).toBe(sha256);
  for (const kind of ['claims', 'plans']) expect(await keysOf(bucket, `.modelferry/${kind}/${prefix.replace(/\/$/, '')}`)).toEqual([]);
  const { Uploads = [] } = await s3Client.send(new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: prefix }));
  expect(Uploads).toEqual([]);

  let registered = 'not registered';
  if (model.registered !== false) {
    const artifact = await registryRecord(`model_artifacts/${results['model-artifact-id']}`);
    const version = await registryRecord(`model_versions/${results['model-version-id']}`);
    const entry = await registryRecord(`registered_models/${results['registered-model-id']}`);
    expect(entry.name).toBe(model.name);
    expect(artifact).toMatchObject({ state: 'LIVE', uri });
    expect(
      version.customProperties?.['modelferry.manifest_sha256'] ?? artifact.customProperties?.['modelferry.manifest_sha256'],
    ).toMatchObject({
      string_value: results['manifest-sha256'],
    });
    registered = `model ${entry.id} ${entry.name}, version ${version.id} ${version.name}, artifact ${artifact.id} ${artifact.state}`;
  }
  const bytes = manifest.files.reduce((sum, { size }) => sum + size, 0);
  leave(`${who}: ${uri} ${keys.length} objects, ${bytes} bytes, manifest sha256 ${results['manifest-sha256']}; ${registered}`);
}

/** Nothing of that model is there for anyone: no manifest, no object, no claim, no open upload; a plan that was given up may stay. */
export async function expectNotPublished(bucket: string, name: string): Promise<void> {
  const keys = await keysOf(bucket);
  expect(keys.filter((key) => key.includes(`/${name}/`) && !key.startsWith('.modelferry/plans/'))).toEqual([]);
  const { Uploads = [] } = await s3Client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  expect(Uploads.filter(({ Key = '' }) => Key.includes(`/${name}/`))).toEqual([]);
}
