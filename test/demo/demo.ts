import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { showBytes } from '../../lib/units.ts';
import { FakeHub } from '../fakes/hub.ts';
import { tinyLlama } from '../fakes/model.ts';
import { FakeRegistry } from '../fakes/registry.ts';
import { FakeS3 } from '../fakes/s3.ts';

/** `npm run demo`: the real program imports a model from a Hub into S3 and a registry, all of them on this machine. */
const root = join(import.meta.dirname, '../..');
const workspace = await mkdtemp(join(tmpdir(), 'modelferry-demo-'));
const hub = new FakeHub();
const s3 = new FakeS3();
const registry = new FakeRegistry();
await Promise.all([hub.listen(), s3.listen(), registry.listen()]);
s3.createBucket('models');
const repo = hub.addRepo({ id: 'acme/tiny-llama', files: tinyLlama({ shardBytes: 24_000_000 }) });

const say = (text = '') => process.stdout.write(`${text}\n`);
const head = (text: string) => say(`\n\u001b[1m${text}\u001b[0m`);

const command = ['modelferry', 'import', '--model-id', 'acme/tiny-llama', '--model-name', 'tiny-llama'];
const env = {
  HF_ENDPOINT: hub.origin,
  S3_BUCKET: 'models',
  S3_ENDPOINT_URL: s3.origin,
  AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
  AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
  MODEL_REGISTRY_URL: registry.origin,
  WORKSPACE: workspace,
};

/** Runs the built program as a user would; its log goes to this terminal, its one line of results comes back. */
async function modelferry(): Promise<Record<string, string>> {
  say(`$ ${command.join(' ')}`);
  const child = spawn(process.execPath, [join(root, 'dist/modelferry.cjs'), ...command.slice(1), '--log-format', 'pretty'], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let stdout = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  const exitCode = await new Promise((resolve) => child.on('close', resolve));
  if (exitCode !== 0) throw new Error(`modelferry ended with ${exitCode}`);
  return JSON.parse(stdout) as Record<string, string>;
}

try {
  head('A Hub, an S3 and a model registry are running on this machine');
  for (const [name, value] of Object.entries(env)) if (!name.includes('SECRET')) say(`  ${name}=${value}`);

  head('1. Import: pinned to a commit, verified, published whole, registered');
  const results = await modelferry();
  for (const [name, value] of Object.entries(results)) say(`  ${name.padEnd(22)} ${value}`);

  head('2. What is in the bucket now: the model as servers read it, and our records beside it');
  const modelPrefix = results['model-uri']?.replace('s3://models/', '') ?? '';
  for (const key of s3.keys('models')) {
    const note = key.startsWith(modelPrefix) ? '' : '   <- ours';
    say(`  ${showBytes(s3.object('models', key)?.size ?? 0).padStart(9)}  ${key}${note}`);
  }

  head('3. What the registry says');
  for (const kind of ['model', 'version', 'artifact'] as const) {
    for (const { id, name, state, uri } of registry.records(kind))
      say(`  ${kind.padEnd(8)} ${id}  ${name}  ${state}${uri ? `  ${uri}` : ''}`);
  }

  head('4. Once more: nothing is sent twice');
  const again = await modelferry();
  say(`  unchanged ${again.unchanged}, uploaded-bytes ${again['uploaded-bytes']}`);

  head('5. The next commit changes only the card: the rest is copied inside the store');
  repo.commit({ files: new Map([['README.md', Buffer.from('---\nlicense: apache-2.0\n---\nA better card.\n')]]), message: 'Better card' });
  const next = await modelferry();
  say(`  uploaded-bytes ${next['uploaded-bytes']}, copied-bytes ${next['copied-bytes']}, ${next['model-uri']}`);

  head('Try it on a real model (no server needed: it publishes into ./modelferry-store)');
  say('  npx modelferry import --model-id hf-internal-testing/tiny-random-LlamaForCausalLM');
  say('  npx modelferry import --help');
} finally {
  await Promise.all([hub.close(), s3.close(), registry.close(), rm(workspace, { recursive: true, force: true })]);
}
