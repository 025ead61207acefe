import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { CreateBucketCommand, GetObjectCommand, ListMultipartUploadsCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { expect } from 'vitest';
import { type Manifest, parseManifest } from '../../lib/manifest.ts';
import { kubectl, Namespace } from './kubernetes.ts';

const root = join(import.meta.dirname, '../..');

function setting(name: string, fallback?: string): string {
  const value = process.env[name] ?? fallback;
  if (value === undefined) throw new Error(`set ${name}: the cluster tests take the cluster's addresses from the environment`);
  return value;
}

/** What the tests are told of the cluster: any will do. */
export const settings = {
  image: setting('TEST_IMAGE', 'localhost/modelferry:test'),
  hubImage: setting('TEST_HUB_IMAGE', 'localhost/modelferry-fakes:test'),
  s3: setting('TEST_S3_ENDPOINT_URL'),
  s3Local: setting('TEST_S3_ENDPOINT_URL_LOCAL', process.env.TEST_S3_ENDPOINT_URL),
  accessKeyId: setting('TEST_S3_ACCESS_KEY_ID'),
  secretAccessKey: setting('TEST_S3_SECRET_ACCESS_KEY'),
  registry: setting('TEST_MODEL_REGISTRY_URL'),
  registryLocal: setting('TEST_MODEL_REGISTRY_URL_LOCAL', process.env.TEST_MODEL_REGISTRY_URL),
};

export const hubToken = 'hf_granted';
const registryPath = '/api/model_registry/v1alpha3';

export interface RegistryRecord {
  id: string;
  name: string;
  state: string;
  uri?: string;
}

/** A fake Hub in the cluster, a bucket, and namespaces with the wiring in them, all of one test file. */
export class Bed {
  readonly id = randomBytes(4).toString('hex');
  readonly bucket = `modelferry-test-${this.id}`;
  readonly s3 = new S3Client({
    region: 'us-east-1',
    endpoint: settings.s3Local,
    forcePathStyle: true,
    credentials: { accessKeyId: settings.accessKeyId, secretAccessKey: settings.secretAccessKey },
  });
  readonly #namespaces: Namespace[] = [];

  async setUp(): Promise<this> {
    await this.s3.send(new CreateBucketCommand({ Bucket: this.bucket }));
    return this;
  }

  /** Deletes the namespaces; their volumes are emptied by the command that the environment names, where there is one. */
  async tearDown(): Promise<void> {
    await Promise.all(this.#namespaces.map((namespace) => namespace.delete()));
    const command = process.env.TEST_FREE_VOLUMES_COMMAND;
    if (command) await promisify(execFile)(command);
  }

  /** A namespace with secrets and wiring, as the README sets it up. */
  async namespace(name: string, { level, plain = true }: { level?: 'restricted'; plain?: boolean } = {}): Promise<Namespace> {
    const namespace = await new Namespace(`mf-${name}-${this.id}`).make(level);
    this.#namespaces.push(namespace);
    await namespace.secret('s3-credentials', { AWS_ACCESS_KEY_ID: settings.accessKeyId, AWS_SECRET_ACCESS_KEY: settings.secretAccessKey });
    await this.#install(namespace, 'workflows', plain ? ['plain-kubernetes'] : []);
    await this.#install(namespace, 'tekton', []);
    return namespace;
  }

  /** The fake Hub as a pod; its address. Faults are those of test/fakes/hub-main.ts. */
  async hub(namespace: Namespace, { name = 'hub', faults = [] }: { name?: string; faults?: object[] } = {}): Promise<string> {
    const host = `${name}.${namespace.name}`;
    const env = {
      PUBLIC_URL: `http://${host}:8080`,
      PUBLIC_CDN_URL: `http://${host}:8081`,
      FAULTS: JSON.stringify(faults),
      SHARD_BYTES: '40000000',
    };
    const ports = [
      { name: 'hub', port: 8080 },
      { name: 'cdn', port: 8081 },
    ];
    await namespace.apply({ apiVersion: 'v1', kind: 'Service', metadata: { name }, spec: { selector: { app: name }, ports } });
    const container = {
      name: 'hub',
      image: settings.hubImage,
      imagePullPolicy: 'IfNotPresent',
      command: ['/nodejs/bin/node', '/app/hub-main.cjs'],
      env: Object.entries(env).map(([key, value]) => ({ name: key, value })),
      readinessProbe: { httpGet: { path: '/api/models/acme/tiny-llama', port: 8080 }, periodSeconds: 1 },
      securityContext: {
        runAsNonRoot: true,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
        seccompProfile: { type: 'RuntimeDefault' },
      },
    };
    await namespace.apply({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name },
      spec: {
        selector: { matchLabels: { app: name } },
        template: { metadata: { labels: { app: name } }, spec: { containers: [container] } },
      },
    });
    await kubectl(['-n', namespace.name, 'rollout', 'status', `deploy/${name}`, '--timeout=180s']);
    return env.PUBLIC_URL;
  }

  /** Installs a folder of the wiring with the image that is tested, by kustomize as a user would. */
  async #install(namespace: Namespace, folder: string, components: string[]): Promise<void> {
    const overlay = await mkdtemp(join(tmpdir(), 'overlay-'));
    try {
      const [newName, newTag] = settings.image.split(/:(?=[^/:]+$)/);
      const base = relative(overlay, join(root, folder));
      const kustomization = {
        resources: [base],
        components: components.map((component) => `${base}/${component}`),
        images: [{ name: 'localhost/modelferry', newName, newTag }],
        configurations: [`${base}/image-fields.yaml`],
      };
      await writeFile(join(overlay, 'kustomization.yaml'), JSON.stringify(kustomization));
      const rendered = await kubectl(['kustomize', '--load-restrictor=LoadRestrictionsNone', overlay]);
      await namespace.apply(rendered);
    } finally {
      await rm(overlay, { recursive: true });
    }
  }

  async keys(prefix = ''): Promise<string[]> {
    const { Contents = [] } = await this.s3.send(new ListObjectsV2Command({ Bucket: this.bucket, Prefix: prefix }));
    return Contents.map(({ Key = '' }) => Key);
  }

  async object(key: string): Promise<Buffer> {
    const { Body } = await this.s3.send(new GetObjectCommand({ Bucket: this.bucket, Key: key }));
    return Buffer.from((await Body?.transformToByteArray()) ?? []);
  }

  /** Asserts that a model is whole: its manifest, every byte that it names, nothing else, no claim and no upload left. */
  async expectPublished(uri: string): Promise<Manifest> {
    const prefix = uri.replace(`s3://${this.bucket}/`, '').replace(/\/$/, '');
    const raw = await this.object(`.modelferry/manifests/${prefix}.json`);
    const manifest = parseManifest(raw, prefix);
    expect((await this.keys(`${prefix}/`)).sort()).toEqual(manifest.files.map(({ path }) => `${prefix}/${path}`).sort());
    for (const { path, sha256 } of manifest.files) {
      expect(
        createHash('sha256')
          .update(await this.object(`${prefix}/${path}`))
          .digest('hex'),
        path,
      ).toBe(sha256);
    }
    expect(await this.keys(`.modelferry/claims/${prefix}`)).toEqual([]);
    const { Uploads = [] } = await this.s3.send(new ListMultipartUploadsCommand({ Bucket: this.bucket, Prefix: `${prefix}/` }));
    expect(Uploads).toEqual([]);
    console.log(`${uri}: ${manifest.files.length} objects, ${manifest.totalBytes} bytes, commit ${manifest.source.commit}`);
    return manifest;
  }

  /** The registry's record of a model's version and its artifact; undefined when it has none. */
  async registered(
    name: string,
    version: string,
  ): Promise<{ model: RegistryRecord; version: RegistryRecord; artifact: RegistryRecord } | undefined> {
    const ask = async <T>(path: string): Promise<T | undefined> => {
      const answer = await fetch(`${settings.registryLocal}${registryPath}${path}`);
      return answer.ok ? ((await answer.json()) as T) : undefined;
    };
    const model = await ask<RegistryRecord>(`/registered_model?name=${name}`);
    const versions = model && (await ask<{ items: RegistryRecord[] }>(`/registered_models/${model.id}/versions`));
    const found = versions?.items.find((one) => one.name === version);
    const artifacts = found && (await ask<{ items: RegistryRecord[] }>(`/model_versions/${found.id}/artifacts`));
    const artifact = artifacts?.items[0];
    if (model === undefined || found === undefined || artifact === undefined) return undefined;
    console.log(
      `registry: model ${model.id} ${model.name}, version ${found.id} ${found.name}, artifact ${artifact.id} ${artifact.state} ${artifact.uri}`,
    );
    return { model, version: found, artifact };
  }
}
