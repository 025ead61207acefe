import { describe, expect, test } from 'vitest';
import type { StepError } from '../lib/errors.ts';
import { schema } from '../lib/params/declare.ts';
import { s3Params } from '../lib/params/groups/store.ts';
import { readParams } from '../lib/params/read.ts';
import { credentialsOf, s3Settings } from '../lib/s3-settings.ts';

const declared = schema({ ...s3Params });
const settings = (env: Record<string, string>) =>
  s3Settings(readParams(declared, { argv: [], env: { S3_BUCKET: 'models', ...env } }).values);
const faultOf = (env: Record<string, string>): StepError => {
  try {
    settings(env);
  } catch (error) {
    return error as StepError;
  }
  throw new Error('no fault was found');
};

describe('where the bucket is', () => {
  test.each([
    ['AWS by region', { AWS_REGION: 'eu-west-1' }, { endpoint: undefined, region: 'eu-west-1', pathStyle: false, aws: true }],
    ['AWS, region from the profile', {}, { endpoint: undefined, region: undefined, pathStyle: false, aws: true }],
    ['a bucket with dots', { S3_BUCKET: 'my.models' }, { pathStyle: true, aws: true }],
    [
      'AWS by its global address',
      { AWS_S3_ENDPOINT: 'https://s3.amazonaws.com/' },
      { endpoint: undefined, region: 'us-east-1', pathStyle: false },
    ],
    [
      'AWS by a region’s address',
      { AWS_S3_ENDPOINT: 's3.eu-central-1.amazonaws.com' },
      { endpoint: undefined, region: 'eu-central-1', aws: true },
    ],
    [
      'AWS by an address of its own',
      { S3_ENDPOINT: 'https://vpce-1.s3.us-east-2.vpce.amazonaws.com', S3_REGION: 'us-east-2' },
      { endpoint: 'https://vpce-1.s3.us-east-2.vpce.amazonaws.com', region: 'us-east-2', aws: true, pathStyle: false },
    ],
    [
      'another S3',
      { AWS_ENDPOINT_URL: 'http://ceph:8080/' },
      { endpoint: 'http://ceph:8080', region: 'us-east-1', pathStyle: true, aws: false },
    ],
    ['no scheme', { AWS_HOST: 'minio:9000' }, { endpoint: 'https://minio:9000', aws: false }],
    ['below a path', { S3_ENDPOINT: 'https://gw.example.com/s3/' }, { endpoint: 'https://gw.example.com/s3' }],
    [
      'a look-alike',
      { S3_ENDPOINT: 'https://s3.amazonaws.com.example.com' },
      { endpoint: 'https://s3.amazonaws.com.example.com', aws: false },
    ],
    ['path style by hand', { S3_ENDPOINT: 'https://minio', S3_PATH_STYLE: 'false' }, { pathStyle: false }],
  ])('%s', (_, env, wanted) => {
    expect(settings(env as unknown as Record<string, string>)).toMatchObject(wanted);
  });
});

describe('who asks', () => {
  const pair = { accessKeyId: 'own', secretAccessKey: 'own-secret' };
  const own = { S3_ACCESS_KEY_ID: 'own', S3_SECRET_ACCESS_KEY: 'own-secret' };
  const aws = { AWS_ACCESS_KEY_ID: 'aws', AWS_SECRET_ACCESS_KEY: 'aws-secret', AWS_SESSION_TOKEN: 'session' };

  test('the own pair comes first, and without the session of the other', async () => {
    expect(await credentialsOf(settings({ ...own, ...aws }))).toEqual(pair);
  });
  test('then the AWS pair with its session', async () => {
    expect(await credentialsOf(settings(aws))).toEqual({ accessKeyId: 'aws', secretAccessKey: 'aws-secret', sessionToken: 'session' });
  });
  test('then the AWS chain', () => {
    expect(settings({}).credentials).toBeTypeOf('function');
  });
  test('half a pair is a fault, also beside a whole one of the other family', () => {
    expect(faultOf({ ...aws, S3_ACCESS_KEY_ID: 'own' }).message).toContain('S3_ACCESS_KEY_ID is given without S3_SECRET_ACCESS_KEY');
  });
});

test('all faults come at once, as usage, and show no secret', () => {
  const fault = faultOf({
    S3_ENDPOINT: 'https://me:pass@s3.example.com',
    AWS_SECRET_ACCESS_KEY: 'aws-secret',
    S3_TAGS: 'team=a,team=b,bare',
    S3_KMS_KEY_ID: 'k',
  });
  expect(fault).toMatchObject({ kind: 'usage' });
  for (const part of ['--s3-endpoint-url', 'AWS_ACCESS_KEY_ID', '"bare"', 'given twice', '--s3-kms-key-id'])
    expect(fault.message).toContain(part);
  expect(fault.message).not.toMatch(/pass|aws-secret/);
});

test('an AWS address with the bucket in it is a fault', () => {
  expect(faultOf({ S3_ENDPOINT: 'https://models.s3.us-east-1.amazonaws.com' }).message).toContain('leave the bucket out');
});

test('tags become one header', () => {
  expect(settings({ S3_TAGS: '["team=a b","cost=1&2"]' }).tagging).toBe('team=a%20b&cost=1%262');
  expect(settings({}).tagging).toBeUndefined();
});
