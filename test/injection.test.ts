import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Step } from '../lib/define-step.ts';
import { StepError } from '../lib/errors.ts';
import { createLog, Redactor } from '../lib/log.ts';
import { Progress } from '../lib/progress.ts';
import { deleteModel } from '../tasks/delete/step.ts';
import { download } from '../tasks/download/step.ts';
import { fetch } from '../tasks/fetch/step.ts';
import { lint } from '../tasks/lint/step.ts';
import { list } from '../tasks/list/step.ts';
import { plan } from '../tasks/plan/step.ts';
import { prune } from '../tasks/prune/step.ts';
import { sync } from '../tasks/sync/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { verify } from '../tasks/verify/step.ts';
import { type FakeCache, openCache } from './fakes/cache.ts';
import type { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { runInProcess } from './fakes/program.ts';
import type { FakeS3 } from './fakes/s3.ts';

/** Ends a line, forges one, clears the screen in two ways, and shows its end backwards. */
const evil = 'a\r\nFORGED all is well \u001b[2J\u009b2J\u2028\u202ex.json';

/** What a terminal or a viewer obeys, but line breaks and our own colours. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const obeyed = /(?!\n)[\u0000-\u001f\u007f-\u009f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
const ours = /\u001b\[\d+m/g;

function expectHarmless(text: string): void {
  expect(text.replace(ours, '')).not.toMatch(obeyed);
  expect(text).not.toMatch(/^[^\w ]*FORGED/m);
}

describe.each(['json', 'pretty'] as const)('a log in %s', (format) => {
  test('is not forged by names, values, errors and stacks', () => {
    const lines: string[] = [];
    const log = createLog({ level: 'trace', format, redactor: new Redactor(), write: (line) => lines.push(line) });
    log.info({ path: evil, files: [evil], deep: { [evil]: evil } }, evil);
    log.error({ stack: `Error: ${evil}\n    at x` }, new StepError('usage', evil).message);
    const progress = new Progress({ log });
    progress.start(evil, 1);
    progress.end();
    for (const line of lines) {
      expectHarmless(line);
      if (format === 'json') expect(() => JSON.parse(line)).not.toThrow();
    }
    expect(JSON.stringify(lines)).toContain('FORGED');
    if (format === 'json') expect(JSON.parse(lines[0] ?? '')).toMatchObject({ path: evil, files: [evil] });
  });
});

describe('what others name', () => {
  let cache: FakeCache;
  let hub: FakeHub;
  let s3: FakeS3;
  let env: Record<string, string>;
  beforeEach(async () => {
    cache = await openCache({ 'acme/model': tinyLlama().set(evil, Buffer.from('{}')) });
    ({ hub, s3 } = cache);
    env = { ...cache.env, LOG_LEVEL: 'trace', RETRIES: '0' };
  });
  afterEach(() => cache.close());

  const said: string[] = [];
  /** Runs a step in both forms, for people and for machines, and looks at all that it writes. */
  async function run(step: Step, more: Record<string, string>, code = 0): Promise<void> {
    for (const terminal of [true, false]) {
      const given = { ...env, LOG_FORMAT: terminal ? 'pretty' : 'json', ...more };
      const { exitCode, stdout, stderr } = await runInProcess(step, [], given, { terminal });
      expect([step.name, exitCode, exitCode === code ? '' : stderr]).toEqual([step.name, code, '']);
      expectHarmless(stdout);
      expectHarmless(stderr);
      said.push(stdout + stderr);
    }
  }

  test('files: obeyed by no terminal, in plans, reports, tables and logs', async () => {
    const model = { MODEL_ID: 'acme/model' };
    const dry = { DRY_RUN: 'true' };
    for (const step of [download, sync, plan, fetch]) await run(step, { ...model, ...dry });
    await run(lint, { ...model, SOURCE: 'hub', PROFILE: 'vllm' });
    await run(download, model);
    await run(upload, dry);
    await run(upload, {});
    s3.put('models', `model-data/model/${hub.repo('acme/model').sha().slice(0, 12)}/${evil}`, 'other');
    await run(verify, { MODEL_NAME: 'model', DEEP: 'true' }, 6);
    expect(said.join('\n')).toContain('FORGED');
  });

  test('models in the store: obeyed by no terminal, in tables and questions', async () => {
    await run(sync, { MODEL_ID: 'acme/model' });
    const [key = ''] = s3.keys('models', '.modelferry/manifests/');
    const pieces: Buffer[] = [];
    for await (const piece of s3.object('models', key)?.content.read(0, s3.object('models', key)?.content.size ?? 0) ?? [])
      pieces.push(Buffer.from(piece));
    s3.put('models', `.modelferry/manifests/model-data/${evil}/v1.json`, Buffer.concat(pieces));
    s3.put('models', `model-data/${evil}/v2/config.json`, '{}', { metadata: { 'modelferry-sha256': '0' } });
    said.length = 0;
    await run(list, { SOURCE: 's3' });
    await run(prune, { KEEP: '1', LEFTOVERS: 'true', LEFTOVERS_AGE: '1ms', DRY_RUN: 'true' });
    await run(deleteModel, { MODEL_URI: `s3://models/model-data/${evil}/v1/`, SOURCE: 's3', DRY_RUN: 'true' });
    expect(said.join('\n')).toContain('FORGED');
  });

  test('errors of servers, in headers and bodies', async () => {
    hub.fail({
      on: /./,
      times: 9,
      answer: { status: 403, headers: { 'x-error-message': 'no \u009b2J FORGED', 'x-error-code': 'GatedRepo' } },
    });
    await run(download, { MODEL_ID: 'acme/model' }, 4);
    hub.hub.clearFaults();
    const body = `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no&#13;&#10;FORGED \u202e\u009b2J</Message></Error>`;
    s3.fail({ on: /./, times: 99, answer: { status: 403, headers: { 'content-type': 'application/xml' }, body } });
    await run(sync, { MODEL_ID: 'acme/model' }, 4);
    await run(list, { SOURCE: 's3' }, 4);
  });
});
