import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { doctor } from '../../tasks/doctor/step.ts';
import { fetch } from '../../tasks/fetch/step.ts';
import { serve } from '../../tasks/serve/step.ts';
import { sync } from '../../tasks/sync/step.ts';
import { type FakeCache, openCache } from '../fakes/cache.ts';
import { bytesOf } from '../fakes/content.ts';
import { tinyLlama } from '../fakes/model.ts';
import { runInProcess } from '../fakes/program.ts';
import { runPython } from './programs.ts';

const ray = join(import.meta.dirname, '../../workflows/ray');
/** The smallest whose heads vLLM's kernels for CPUs take. */
const files = tinyLlama({ shardBytes: 700_000 });

let cache: FakeCache;
let env: Record<string, string>;
let uri: string;
/** What every Python program here is given: no Hub, and small. */
let python: Record<string, string>;
let credentials: Record<string, string>;
beforeAll(async () => {
  cache = await openCache({ 'acme/lm': files });
  env = { ...cache.env, MODEL_ID: 'acme/lm' };
  const published = await runInProcess(sync, [], env);
  expect(published.exitCode, published.stderr).toBe(0);
  uri = published.results['model-uri'] ?? '';
  // From here on there is no Hub.
  await cache.hub.close();
  const { AWS_ACCESS_KEY_ID = '', AWS_SECRET_ACCESS_KEY = '' } = env;
  credentials = { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY };
  python = {
    HOME: join(cache.dir, 'home'),
    HF_HUB_OFFLINE: '1',
    RAY_USAGE_STATS_ENABLED: '0',
    VLLM_NO_USAGE_STATS: '1',
    VLLM_CPU_KVCACHE_SPACE: '1',
    VLLM_ENABLE_V1_MULTIPROCESSING: '0',
    VLLM_CPU_OMP_THREADS_BIND: 'nobind',
    OMP_NUM_THREADS: '1',
    TORCHDYNAMO_DISABLE: '1',
  };
});
afterAll(async () => await cache?.close());

const fetched = async (...argv: string[]) => {
  const ended = await runInProcess(fetch, argv, env);
  expect(ended.exitCode, ended.stderr).toBe(0);
  expect(ended.results.source).not.toBe('hub');
  return ended.results.path ?? '';
};

describe("KServe's storage initializer", () => {
  /** What its controller makes of a Secret's annotations (kserve pkg/credentials/s3/utils.go, BuildS3EnvVars). */
  const envOf = (annotations: Record<string, string>): Record<string, string> => {
    const of = (name: string) => annotations[`serving.kserve.io/s3-${name}`] ?? '';
    return {
      AWS_ENDPOINT_URL: `${of('usehttps') === '0' ? 'http' : 'https'}://${of('endpoint')}`,
      S3_ENDPOINT: of('endpoint'),
      S3_USE_HTTPS: of('usehttps'),
      S3_VERIFY_SSL: of('verifyssl'),
      AWS_DEFAULT_REGION: of('region'),
      S3_USER_VIRTUAL_BUCKET: of('usevirtualbucket'),
      awsAnonymousCredential: of('useanoncredential'),
    };
  };

  test('with the annotations that doctor prints, brings exactly the files of the URI', async () => {
    // Named like it, but for its end: a prefix that does not end in a slash would bring them too.
    cache.s3.put('models', `${uri.replace('s3://models/', '').replace(/\/$/, '')}.1/config.json`, '{}');
    const asked = await runInProcess(doctor, [], env);
    const { settings } = JSON.parse(asked.stdout) as { settings: { kserve: { metadata: { annotations: Record<string, string> } } } };
    const folder = join(cache.dir, 'kserve');
    await mkdir(folder);
    const given = { ...python, ...credentials, ...envOf(settings.kserve.metadata.annotations) };
    expect(await runPython('kserve_download.py', [uri, folder], given)).toBe(folder);
    const entries = await readdir(folder, { recursive: true });
    expect(entries.sort()).toEqual([...files.keys()].sort());
    for (const [path, content] of files) expect((await readFile(join(folder, path))).equals(bytesOf(content)), path).toBe(true);
  });
});

describe('vLLM', () => {
  let said: number[];
  test('loads the model from the folder that fetch filled', async () => {
    said = await runPython<number[]>('vllm_generate.py', [await fetched(`--model-dir=${join(cache.dir, 'lm')}`), 'auto'], python);
    expect(said).toHaveLength(8);
  });

  test('finds it by its name in the HF_HOME that fetch --link made', async () => {
    const home = join(cache.dir, 'hf');
    await fetched(`--link=${home}`);
    expect(await runPython('vllm_generate.py', ['acme/lm', 'auto'], { ...python, HF_HOME: home })).toEqual(said);
  });

  test('streams it right from S3, as the command of serve says', async () => {
    const argv = ['--kind=command', `--model-uri=${uri}`, `--s3-endpoint-url=${cache.s3.origin}`];
    const { stdout } = await runInProcess(serve, argv, {});
    const words = stdout.replaceAll('\\\n', ' ').trim().split(/ +/);
    const given = Object.fromEntries(words.filter((word) => /^[A-Z0-9_]+=/.test(word)).map((word) => word.split('=') as [string, string]));
    const format = words[words.indexOf('--load-format') + 1] ?? '';
    expect(words.slice(words.indexOf('vllm'), words.indexOf('vllm') + 3)).toEqual(['vllm', 'serve', uri]);
    cache.s3.requests.length = 0;
    expect(await runPython('vllm_generate.py', [uri, format], { ...python, ...credentials, ...given })).toEqual(said);
    expect(cache.s3.seen(/^GET .*\.safetensors/).length).toBeGreaterThan(2);
  });

  test('and does so with the environment that doctor prints', async () => {
    const asked = await runInProcess(doctor, [], env);
    const { settings } = JSON.parse(asked.stdout) as { settings: { vllm: Record<string, string> } };
    const given = { ...python, ...credentials, ...settings.vllm };
    expect(await runPython('vllm_generate.py', [uri, 'runai_streamer'], given)).toEqual(said);
  });
});

describe('Ray Serve', () => {
  const configOf = async (text: string, name: string) => {
    const { spec } = parse(text) as { spec: { serveConfigV2: string } };
    const file = join(cache.dir, `${name}.yaml`);
    await writeFile(file, spec.serveConfigV2);
    return file;
  };

  test('runs the example app over the folder that fetch filled', async () => {
    const config = await configOf(await readFile(join(ray, 'ray-service.yaml'), 'utf8'), 'app');
    const folder = await fetched(`--model-dir=${join(cache.dir, 'lm')}`);
    const { text } = await runPython<{ text: string }>('ray_serve.py', [config, ray, folder, 'hello world'], python);
    expect(text).toMatch(/^hello world./);
  });

  test("takes what serve --kind rayservice prints, with Ray LLM's own types", async () => {
    const { stdout, exitCode, stderr } = await runInProcess(serve, ['--kind=rayservice', `--model-uri=${uri}`], {});
    expect(exitCode, stderr).toBe(0);
    expect(await runPython('ray_serve.py', [await configOf(stdout, 'llm')], python)).toBe('checked');
  });

  test('takes what the graph RayService of kro makes', async () => {
    const graph = parse(await readFile(join(ray, '../kro/ray-service.yaml'), 'utf8')) as {
      spec: { resources: { template: { kind: string; spec: { serveConfigV2: string } } }[] };
    };
    const service = graph.spec.resources.find(({ template }) => template.kind === 'RayService')?.template.spec.serveConfigV2 ?? '';
    const filled = service.replace(/\$\{schema\.spec\.modelName\}/g, 'lm').replace(/\$\{string\(schema\.spec\.\w+\)\}/g, '1');
    expect(filled).not.toContain('$');
    const file = join(cache.dir, 'graph.yaml');
    await writeFile(file, filled);
    expect(await runPython('ray_serve.py', [file], python)).toBe('checked');
  });
});
