import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bytesOf } from './fakes/content.ts';
import { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { FakeS3 } from './fakes/s3.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '..');
const tiny = tinyLlama();

let hub: FakeHub;
let s3: FakeS3;
let dir: string;
beforeAll(async () => {
  hub = await new FakeHub().listen();
  hub.addRepo({ id: 'acme/tiny', files: tiny });
  s3 = new FakeS3();
  await s3.listen();
  s3.createBucket('models');
  dir = await mkdtemp(join(tmpdir(), 'api-'));
  // As npm puts it there: what is packed, and nothing of this repository.
  await run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', dir], { cwd: root });
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
  await writeFile(join(dir, 'package.json'), '{"type":"module"}');
  const installed = join(dir, 'node_modules/modelferry');
  await mkdir(installed, { recursive: true });
  await run('tar', ['-xzf', join(dir, `modelferry-${version}.tgz`), '--strip-components=1', '-C', installed]);
});
afterAll(async () => {
  await Promise.all([hub.close(), s3.close()]);
  await rm(dir, { recursive: true });
});

const program = `
import { deleteModel, type FetchedModel, fetchModel, isModelferryError, lintModel, listModels, syncModel, verifyModel } from 'modelferry';

const lines: string[] = [];
const store = { onLog: (line: string) => { lines.push(line); }, concurrency: 2, partSize: 5 * 1024 ** 2, stallTimeout: 5_000 };
const { modelUri } = await syncModel({ modelId: 'acme/tiny', modelVersion: '1', ...store });
const pods: FetchedModel[] = await Promise.all(['one', 'two'].map((name) => fetchModel({ modelUri, modelDir: process.argv[2] + '/' + name, ...store })));
const { repaired } = await verifyModel({ modelUri, deep: true, ...store });
const findings = await lintModel({ modelId: 'acme/tiny', source: 'hub', allowPatterns: ['*.safetensors'], ...store });
const models = await listModels(store);
const { objects } = await deleteModel({ modelUri, ...store });
let kind: string | undefined;
try {
  await fetchModel({ modelUri, fallback: 'none', modelDir: process.argv[2] + '/three', ...store });
} catch (error) {
  if (isModelferryError(error)) kind = error.kind;
}
const faults = await fetchModel({ concurrency: 0 }).catch((error: Error) => error.message);
console.log(JSON.stringify({ pods, repaired, findings, models, objects, kind, faults, logged: lines.length > 0 }));
`;

test('an installed package is used by its types, and does what the commands do', async () => {
  await writeFile(join(dir, 'use.ts'), program);
  await writeFile(join(dir, 'wrong.ts'), "import { fetchModel } from 'modelferry';\nfetchModel({ modelID: 'x' });\n");
  const check = (file: string) =>
    run(
      process.execPath,
      [
        join(root, 'node_modules/typescript/bin/tsc'),
        ...['--noEmit', '--strict', '--target', 'es2024', '--module', 'nodenext', '--lib', 'es2024,dom', '--types', 'node'],
        ...['--typeRoots', join(root, 'node_modules/@types'), '--ignoreConfig', file],
      ],
      { cwd: dir },
    ).then(
      () => '',
      ({ stdout }: { stdout: string }) => stdout,
    );
  expect(await check('use.ts')).toBe('');
  expect(await check('wrong.ts')).toContain('modelID');
  const { stdout } = await run(process.execPath, ['use.ts', dir], {
    cwd: dir,
    env: {
      PATH: process.env.PATH,
      HF_ENDPOINT: hub.origin,
      S3_BUCKET: 'models',
      S3_ENDPOINT: s3.origin,
      AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
    },
  });
  const result = JSON.parse(stdout) as { pods: { path: string; bytes: number; source: string }[]; models: unknown[]; findings: unknown[] };
  expect(result).toMatchObject({
    pods: [
      { source: 's3', cache: 'hit', path: join(dir, 'one'), fileCount: tiny.size },
      { source: 's3', path: join(dir, 'two') },
    ],
    repaired: 0,
    models: [{ name: 'tiny', version: '1', repo: 'acme/tiny' }],
    objects: tiny.size,
    kind: 'not-found',
    faults: expect.stringContaining('--concurrency'),
    logged: true,
  });
  expect(result.findings).toContainEqual(expect.objectContaining({ severity: 'warning', rule: 'config' }));
  for (const pod of ['one', 'two']) {
    for (const [path, content] of tiny) expect((await readFile(join(dir, pod, path))).equals(bytesOf(content)), path).toBe(true);
  }
});

test('an older Node is told so by an error that can be caught, before anything else of it is read', async () => {
  const older = join(dir, 'older.cjs');
  await writeFile(older, "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '24.4.9' } });");
  await writeFile(
    join(dir, 'caught.js'),
    "const failure = await import('modelferry').catch((error) => error);\nconsole.log(failure instanceof Error, failure.message);\n",
  );
  const { stdout, stderr } = await run(process.execPath, ['--require', older, 'caught.js'], { cwd: dir });
  expect(stdout).toMatch(/^true failed to load modelferry: it needs Node 24\.5 or newer, and this is 24\.4\.9 \(.+\)\n$/);
  expect(stderr).toBe('');
  // What a module imports by name and an older Node does not have fails before any line of it runs.
  expect(await readFile(join(dir, 'node_modules/modelferry/dist/node/api.js'), 'utf8')).not.toMatch(/\bimport\s*[{*'"a-z]/);
});
