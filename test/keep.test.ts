import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Step } from '../lib/define-step.ts';
import { deleteModel } from '../tasks/delete/step.ts';
import { fetch as fetchStep } from '../tasks/fetch/step.ts';
import { finish } from '../tasks/finish/step.ts';
import type { Row } from '../tasks/list/show.ts';
import { list } from '../tasks/list/step.ts';
import { plan } from '../tasks/plan/step.ts';
import { prune } from '../tasks/prune/step.ts';
import { register } from '../tasks/register-in-model-registry/step.ts';
import { sync } from '../tasks/sync/step.ts';
import { type FakeCache, openCache } from './fakes/cache.ts';
import { type Content, sizeOf } from './fakes/content.ts';
import type { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { Program, runInProcess, until } from './fakes/program.ts';
import { FakeRegistry } from './fakes/registry.ts';
import type { FakeS3 } from './fakes/s3.ts';

const day = 86_400_000;
const tiny = tinyLlama();
const bytes = [...tiny.values()].reduce((sum, content: Content) => sum + sizeOf(content), 0);

let cache: FakeCache;
let hub: FakeHub;
let s3: FakeS3;
let registry: FakeRegistry;
let dir: string;
let env: Record<string, string>;
beforeEach(async () => {
  cache = await openCache({ 'acme/tiny': tiny });
  ({ hub, s3, dir, env } = cache);
  registry = new FakeRegistry();
  await registry.server.listen();
});
afterEach(async () => await Promise.all([cache.close(), registry.server.close()]));

const run = (step: Step, argv: readonly string[] = [], more: Record<string, string> = {}) => runInProcess(step, argv, { ...env, ...more });
const withRegistry = () => ({ MODEL_REGISTRY_URL: registry.origin });

/** Publishes the next commit as that version, so many days ago. */
async function publish(version: string, daysAgo = 0, more: Record<string, string> = {}): Promise<Record<string, string>> {
  const ended = await run(sync, [], { MODEL_ID: 'acme/tiny', MODEL_VERSION: version, ...more });
  expect(ended.exitCode, ended.stderr).toBe(0);
  age(`/${version}`, daysAgo);
  return ended.results;
}

/** Makes the objects whose key has that in it older. */
function age(part: string, days: number): void {
  for (const key of s3.keys('models').filter((each) => each.includes(part))) {
    const object = s3.object('models', key);
    if (object) object.lastModified = new Date(Date.now() - days * day);
  }
}

const rows = async (argv: readonly string[] = [], more = {}) => {
  const ended = await run(list, argv, more);
  expect(ended.exitCode, ended.stderr).toBe(0);
  return JSON.parse(ended.stdout) as Row[];
};
const keysOf = (version: string) => s3.keys('models').filter((key) => key.includes(`/${version}`));

/** Runs a command on a terminal of its own, types one key (its code is the first word) when it asks, and gives on what it wrote and its exit code. */
const typist = `
import os, pty, sys
child, terminal = pty.fork()
if child == 0: os.execvp(sys.argv[2], sys.argv[2:])
seen, typed = b'', False
try:
    while part := os.read(terminal, 4096):
        seen += part
        if not typed and b'[y/N] ' in seen: typed = os.write(terminal, bytes([int(sys.argv[1])])) == 1
except OSError: pass
sys.stdout.write(seen.decode())
sys.stdout.flush()
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
`;

describe('list', () => {
  test('tells every model of the store and of this machine, and what the registry has live', async () => {
    const one = await publish('1', 2);
    await publish('2', 1, { MODEL_NAME: 'other' });
    await run(register, [`--model-uri=${one['model-uri']}`], { ...withRegistry(), MODEL_VERSION: '1' });
    await run(fetchStep, ['--model-name=tiny']);
    const [other, published] = await rows([], withRegistry());
    expect(published).toEqual({
      source: 's3',
      name: 'tiny',
      version: '1',
      repo: 'acme/tiny',
      commit: one.commit,
      method: 'none',
      files: tiny.size,
      bytes,
      at: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      uri: one['model-uri'],
      registered: 'LIVE',
    });
    expect(other).toMatchObject({ name: 'other', version: '2', registered: null });
    const both = await rows(['--source=both', '--model-name=tiny']);
    expect(both.map(({ source }) => source)).toEqual(['s3', 'local']);
    expect(both[1]?.uri).toBe(join(dir, 'workspace', 'acme--tiny', one.commit ?? '', 'files'));
  });

  test('is a table on a terminal, and says so when there is nothing', async () => {
    await publish('1');
    const onTerminal = async (argv: string[]) => {
      let stdout = '';
      const invocation = { argv, env, stderr: () => {}, terminal: true, signal: new AbortController().signal, command: 'list' };
      await list.execute({ ...invocation, stdout: (text) => (stdout += text) });
      return stdout;
    };
    expect(await onTerminal([])).toMatch(/NAME +VERSION[\s\S]*tiny +1 +acme\/tiny[\s\S]*1 model, /);
    expect(await onTerminal(['--source=local'])).toBe('no models\n');
  });
});

describe('delete', () => {
  test('takes the manifest first, then all of that version, and nothing of another', async () => {
    await publish('1.0');
    await publish('1.0.1');
    s3.put('models', 'model-data/tiny/1.0/notes-of-others.txt', 'mine');
    s3.requests.length = 0;
    const ended = await run(deleteModel, ['--model-name=tiny', '--model-version=1.0', '--yes']);
    expect(ended.exitCode, ended.stderr).toBe(0);
    expect(ended.results).toEqual({ 'deleted-objects': String(tiny.size), 'deleted-bytes': String(bytes) });
    expect(s3.seen(/^DELETE (?!.*probe)/)[0]?.url).toContain('.modelferry/manifests/model-data/tiny/1.0.json');
    expect(keysOf('1.0').filter((key) => !key.includes('1.0.1'))).toEqual(['model-data/tiny/1.0/notes-of-others.txt']);
    expect(keysOf('1.0.1')).toHaveLength(tiny.size + 3);
    expect((await run(deleteModel, ['--model-name=tiny', '--model-version=1.0', '--yes'])).exitCode).toBe(3);
  });

  test('killed in the middle leaves no model, and the next one ends it', async () => {
    const { 'model-uri': uri = '' } = await publish('1');
    s3.fail({ on: /^DELETE \/models\/model-data/, skip: 3, times: 100, stallAfter: -1 });
    const killed = new Program('delete', [`--model-uri=${uri}`, '--yes'], env);
    await until(() => s3.seen(/^DELETE \/models\/model-data/).length > 4);
    await killed.kill('SIGKILL');
    s3.clearFaults();
    expect(await rows()).toEqual([]);
    expect(keysOf('1/').length).toBeGreaterThan(0);
    expect((await run(deleteModel, ['--model-name=tiny', '--model-version=1', '--yes'])).exitCode).toBe(0);
    expect(s3.keys('models').filter((key) => !key.endsWith('/probe'))).toEqual([]);
  });

  test('refuses what is live unless it is forced, a folder of models, and when nobody can be asked', async () => {
    const { 'model-uri': uri = '' } = await publish('1');
    await run(register, [`--model-uri=${uri}`], { ...withRegistry(), MODEL_VERSION: '1' });
    const before = s3.keys('models');
    const live = await run(deleteModel, [`--model-uri=${uri}`, '--yes'], withRegistry());
    expect(live.exitCode).toBe(7);
    expect(live.stderr).toContain('LIVE');
    const parent = await run(deleteModel, ['--model-uri=s3://models/model-data/tiny/', '--yes']);
    expect(parent.exitCode).toBe(7);
    const unasked = await run(deleteModel, [`--model-uri=${uri}`]);
    expect(unasked.exitCode).toBe(2);
    expect(unasked.stderr).toContain('--yes');
    expect((await run(deleteModel, ['--yes'])).exitCode).toBe(2);
    registry.fail({ on: /model_artifacts/, times: 100, answer: { status: 404, body: '{"message":"no route"}' } });
    expect((await run(deleteModel, [`--model-uri=${uri}`, '--yes'], withRegistry())).exitCode).not.toBe(0);
    expect(s3.keys('models').filter((key) => !key.endsWith('/probe'))).toEqual(before.filter((key) => !key.endsWith('/probe')));
    expect((await run(deleteModel, [`--model-uri=${uri}`, '--yes', '--force'], withRegistry())).exitCode).toBe(0);
  });

  test('asks on a terminal', async () => {
    const { 'model-uri': uri = '' } = await publish('1');
    const asking = async (answer: string, which = uri) => {
      const questions: string[] = [];
      const { exitCode } = await deleteModel.execute({
        argv: [`--model-uri=${which}`],
        env,
        stdout: () => {},
        stderr: () => {},
        terminal: true,
        ask: async (question) => {
          questions.push(question);
          return answer;
        },
        signal: new AbortController().signal,
        command: 'delete',
      });
      return { exitCode, questions };
    };
    expect(await asking('', uri.replace('/1/', '/2/'))).toEqual({ exitCode: 3, questions: [] });
    expect(await asking('')).toEqual({ exitCode: 7, questions: [`delete ${uri}? [y/N] `] });
    expect((await rows()).length).toBe(1);
    expect((await asking('y')).exitCode).toBe(0);
    expect(await rows()).toEqual([]);
  });

  test.each([
    ['Ctrl-C', '3', 143, 'ended by SIGINT'],
    ['Ctrl-D', '4', 7, 'the answer was no'],
  ])('deletes nothing after %s at the question', async (_, key, exitCode, text) => {
    const { 'model-uri': uri = '' } = await publish('1');
    const ended = await new Program('delete', [`--model-uri=${uri}`], env, dir, ['python3', '-c', typist, key]).ended;
    expect([ended.exitCode, ended.stdout]).toEqual([exitCode, expect.stringContaining(text)]);
    expect((await rows()).length).toBe(1);
  });

  test('a dry run tells what would go from where, and deletes nothing', async () => {
    const { 'model-uri': uri = '', commit = '' } = await publish('1');
    s3.put('models', 'model-data/tiny/1/notes-of-others.txt', 'mine');
    await run(fetchStep, ['--model-name=tiny']);
    const here = join(dir, 'workspace', 'acme--tiny', commit, 'files');
    const which = ['--model-id=acme/tiny', '--model-version=1', '--dry-run'];
    const writes = s3.seen(/^(PUT|POST|DELETE)/).length;
    const inStore = { uri, store: { files: tiny.size, bytes }, foreign: ['model-data/tiny/1/notes-of-others.txt'] };
    const { exitCode, stdout, results } = await run(deleteModel, which);
    expect([exitCode, JSON.parse(stdout)]).toEqual([0, { ...inStore, folders: [] }]);
    expect(results).toEqual({ 'deleted-objects': '0', 'deleted-bytes': '0' });
    const local = ['--model-id=acme/tiny', `--model-version=${commit.slice(0, 12)}`, '--source=local', '--dry-run'];
    expect(JSON.parse((await run(deleteModel, local)).stdout)).toEqual({
      uri: null,
      store: { files: 0, bytes: 0 },
      foreign: [],
      folders: [{ folder: here, files: tiny.size, bytes }],
    });
    const people = await runInProcess(deleteModel, which, env, { terminal: true });
    expect(people.stdout).toMatch(new RegExp(`^${uri}\n  to delete ${tiny.size} files, .*\n  to stay   1 object that is not ours\n$`));
    expect((await runInProcess(deleteModel, local, env, { terminal: true })).stdout).toMatch(
      new RegExp(`^${here}\n  to delete ${tiny.size} files, .*\n$`),
    );
    expect([s3.seen(/^(PUT|POST|DELETE)/).length, existsSync(join(here, 'config.json'))]).toEqual([writes, true]);
    expect((await run(deleteModel, ['--model-name=tiny', '--model-version=2', '--dry-run'])).exitCode).toBe(3);
  });

  test('here: a workspace model and a named folder, of which only ours goes; from both at once', async () => {
    const { commit = '' } = await publish('1');
    const modelDir = join(dir, 'model');
    await run(fetchStep, ['--model-name=tiny']);
    await run(fetchStep, ['--model-name=tiny', `--model-dir=${modelDir}`]);
    await writeFile(join(modelDir, 'notes.txt'), 'mine');
    expect((await run(deleteModel, [`--model-dir=${modelDir}`, '--yes'])).results['deleted-bytes']).toBe(String(bytes));
    expect(existsSync(join(modelDir, 'notes.txt'))).toBe(true);
    expect(existsSync(join(modelDir, 'config.json'))).toBe(false);
    expect(existsSync(join(modelDir, '.modelferry'))).toBe(false);
    await run(deleteModel, ['--model-id=acme/tiny', `--model-version=${commit.slice(0, 12)}`, '--source=local', '--yes']);
    expect(await rows(['--source=local'])).toEqual([]);
    expect(await rows()).toHaveLength(1);
  });

  test('a folder store too', async () => {
    const store = { S3_BUCKET: '', STORE_DIR: join(dir, 'store') };
    await run(sync, [], { ...store, MODEL_ID: 'acme/tiny', MODEL_VERSION: '1' });
    expect(await rows([], store)).toHaveLength(1);
    expect((await run(deleteModel, ['--model-name=tiny', '--model-version=1', '--yes'], store)).exitCode).toBe(0);
    expect(await rows([], store)).toEqual([]);
    expect(existsSync(join(dir, 'store', 'model-data'))).toBe(false);
  });
});

describe('prune', () => {
  test('keeps the newest of each model, what is young, and what the registry has in use', async () => {
    for (const [version, days] of [
      ['1', 50],
      ['2', 40],
      ['3', 30],
      ['4', 2],
      ['5', 1],
    ] as const) {
      hub.repo('acme/tiny').commit({ files: new Map([['config.json', Buffer.from(`{"v":${version}}`)]]) });
      const { 'model-uri': uri } = await publish(version, days);
      if (version === '2') await run(register, [`--model-uri=${uri}`], { ...withRegistry(), MODEL_VERSION: version });
    }
    await publish('9', 99, { MODEL_NAME: 'other' });
    const dry = await run(prune, ['--keep=1', '--older-than=7d', '--dry-run'], withRegistry());
    expect(JSON.parse(dry.stdout)).toMatchObject({
      versions: [{ uri: 's3://models/model-data/tiny/3/' }, { uri: 's3://models/model-data/tiny/1/' }],
    });
    expect(await rows()).toHaveLength(6);
    const ended = await run(prune, ['--keep=1', '--older-than=7d'], withRegistry());
    expect(ended.exitCode, ended.stderr).toBe(0);
    expect(ended.results).toMatchObject({ 'deleted-versions': '2', 'kept-versions': '4' });
    expect((await rows()).map(({ name, version }) => `${name} ${version}`)).toEqual(['tiny 5', 'tiny 4', 'tiny 2', 'other 9']);
    expect(keysOf('1/').concat(keysOf('3/'))).toEqual([]);
  });

  test('without an answer of the registry nothing goes', async () => {
    await publish('1', 50);
    await publish('2', 40);
    for (const answer of [{ status: 500 }, { status: 404, body: '{"message":"no Route matched"}' }, { status: 200, body: '<html>' }]) {
      const heal = registry.fail({ on: /model_artifacts/, times: 100, answer });
      expect((await run(prune, ['--keep=1', '--retries=0'], withRegistry())).exitCode).not.toBe(0);
      heal();
    }
    expect(await rows()).toHaveLength(2);
    expect((await run(prune, ['--keep=0'])).exitCode).toBe(2);
    expect((await run(prune)).exitCode).toBe(2);
  });

  test('--leftovers: what killed runs left, and neither what lives nor what others put there', async () => {
    hub.addRepo({ id: 'acme/large', files: tinyLlama({ shardBytes: 12_000_000 }) });
    await publish('1', 9);
    s3.fail({ on: /^PUT .*partNumber=2/, times: 100, stallAfter: -1 });
    const sending = { ...env, MODEL_ID: 'acme/large', PART_SIZE: '5MiB', CONCURRENCY: '12' };
    const killed = new Program('sync', ['--model-version=dead'], sending);
    await until(() => s3.uploads('models').length > 0 && keysOf('dead/').length > 6);
    await killed.kill('SIGKILL');
    s3.clearFaults();
    const parts = [...(s3.buckets.get('models')?.uploads.values() ?? [])];
    expect(parts.length).toBeGreaterThan(0);
    for (const path of ['stranger.bin', 'tiny/strange/x.bin']) s3.put('models', `model-data/${path}`, 'mine');
    age('stran', 99);
    const young = await run(prune, ['--leftovers']);
    expect(young.results).toMatchObject({ 'deleted-leftovers': '0', 'aborted-uploads': '0' });
    age('dead', 9);
    const ended = await run(prune, ['--leftovers']);
    expect(ended.exitCode, ended.stderr).toBe(0);
    expect(ended.results['aborted-uploads']).toBe(String(parts.length));
    expect(s3.uploads('models')).toEqual([]);
    expect(keysOf('dead')).toEqual([]);
    expect(await rows()).toHaveLength(1);
    expect(keysOf('1/')).toHaveLength(tiny.size);
    expect(s3.keys('models').filter((key) => key.includes('stran'))).toHaveLength(2);
  });

  test('--leftovers: plans that nobody goes on with, and no plan that is held', async () => {
    hub.addRepo({ id: 'acme/large', files: tinyLlama({ shardBytes: 12_000_000 }) });
    const planned = async (version: string, modelId = 'acme/tiny') => {
      const ended = await run(plan, ['--shards=2', `--model-version=${version}`, '--hold=3d'], { MODEL_ID: modelId });
      expect(ended.exitCode, ended.stderr).toBe(0);
      return ended.results.plan ?? '';
    };
    const shard = (key: string) => run(sync, [`--plan=${key}`, '--shard=0/2']);
    const plansOf = (version: string) => s3.keys('models', '.modelferry/plans/').filter((key) => key.includes(`/${version}/`));
    const abandoned = await planned('1');
    expect((await shard(abandoned)).exitCode).toBe(0);
    expect((await run(finish, [`--plan=${abandoned}`, '--abandon'])).exitCode).toBe(0);
    // By another way meanwhile.
    await publish('1');
    const other = await planned('2');
    expect((await run(finish, [`--plan=${other}`, '--abandon'])).exitCode).toBe(0);
    const held = await planned('3');
    const going = await planned('4');
    const lost = await planned('5', 'acme/large');
    s3.fail({ on: /^PUT .*partNumber=2/, times: 100, stallAfter: -1 });
    const killed = new Program('sync', [`--plan=${lost}`, '--shard=0/2'], { ...env, PART_SIZE: '5MiB' });
    await until(() => s3.uploads('models').length > 0);
    await killed.kill('SIGKILL');
    s3.clearFaults();
    for (const version of ['1', '2', '3', '4', '5']) age(`/${version}/`, 2);
    for (const key of s3.keys('models', '.modelferry/claims/')) age(key, 2);
    age('/5', 9);
    // Its report is new.
    expect((await shard(going)).exitCode).toBe(0);

    const shown = JSON.parse((await run(prune, ['--leftovers', '--dry-run'])).stdout) as { leftovers: string[] };
    expect(shown.leftovers).toEqual(expect.arrayContaining([...plansOf('1'), ...plansOf('2'), ...plansOf('5')]));
    const ended = await run(prune, ['--leftovers']);
    expect(ended.exitCode, ended.stderr).toBe(0);
    for (const version of ['1', '2', '5']) expect(plansOf(version), version).toEqual([]);
    expect(s3.uploads('models')).toEqual([]);
    expect(plansOf('3')).toContain(held);
    expect(plansOf('4')).toContain(going);
    expect((await run(sync, [`--plan=${going}`, '--shard=1/2'])).exitCode).toBe(0);
    expect((await run(finish, [`--plan=${going}`])).exitCode).toBe(0);
    expect(await rows()).toHaveLength(2);
  });
});
