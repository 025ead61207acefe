import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { defineStep } from '../lib/define-step.ts';
import { type ErrorKind, exitCodes, StepError } from '../lib/errors.ts';
import { createLog, Redactor } from '../lib/log.ts';
import { schema } from '../lib/params/declare.ts';
import { hubParams } from '../lib/params/groups/hub.ts';
import { Progress } from '../lib/progress.ts';
import { showBytes, showDuration } from '../lib/units.ts';
import { Program, runInProcess } from './fakes/program.ts';

const secret = 'hf_sécret/value+1';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'step-'));
});
afterEach(() => rm(dir, { recursive: true }));

function stepThat(run: (token: string | undefined) => Promise<Record<'answer', string>>) {
  return defineStep({
    name: 'probe',
    summary: 'Probes.',
    params: schema(hubParams),
    results: { answer: 'An answer.' },
    run: (params, ctx) => {
      ctx.log.info({ token: params.hubToken, forms: [encodeURIComponent(secret), Buffer.from(secret).toString('base64')] }, 'working');
      return run(params.hubToken);
    },
  });
}

describe('a step', () => {
  test('gives one line of JSON, and one file per result without a line break', async () => {
    const resultsDir = join(dir, 'results');
    const { exitCode, stdout } = await runInProcess(
      stepThat(async () => ({ answer: '42' })),
      ['--results-dir', resultsDir],
    );
    expect([exitCode, stdout]).toEqual([0, '{"answer":"42"}\n']);
    expect(await readdir(resultsDir)).toEqual(['answer']);
    expect(await readFile(join(resultsDir, 'answer'), 'utf8')).toBe('42');
  });

  test.each(Object.keys(exitCodes) as ErrorKind[])('ends with the code of %s, one line and a hint, and no result', async (kind) => {
    const step = stepThat(async () => {
      throw new StepError(kind, 'failed to probe\nthe thing: it is not there', { hint: 'look elsewhere' });
    });
    const resultsDir = join(dir, 'results');
    const { exitCode, stdout, stderr } = await runInProcess(step, ['--results-dir', resultsDir]);
    expect(exitCode).toBe(exitCodes[kind]);
    expect(stdout).toBe('');
    const said = JSON.parse(stderr.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
    expect(said).toMatchObject({ kind, exitCode, hint: 'look elsewhere', msg: 'failed to probe the thing: it is not there' });
    expect(await readdir(dir)).toEqual([]);
  });

  test('a file where a folder or the log should be is told before the work, with code 2', async () => {
    const file = join(dir, 'file');
    await writeFile(file, 'mine');
    let worked = false;
    const step = stepThat(async () => {
      worked = true;
      return { answer: '42' };
    });
    for (const argv of [
      ['--results-dir', file],
      ['--results-dir', join(file, 'below')],
      ['--log-file', join(dir, 'none', 'log')],
      ['--log-file', dir],
    ]) {
      const { exitCode, stdout, stderr } = await runInProcess(step, argv);
      expect([exitCode, stdout, worked], argv.join(' ')).toEqual([2, '', false]);
      expect(JSON.parse(stderr).msg).toContain(argv[0]);
    }
    expect([await readdir(dir), await readFile(file, 'utf8')]).toEqual([['file'], 'mine']);
  });

  test.each([
    ['in two words', (file: string) => ['--env-file', file]],
    ['in one', (file: string) => [`--env-file=${file}`]],
  ])('reads the file that --env-file names %s, whatever its name', async (_, argv) => {
    const file = join(dir, 'a=b.env');
    await writeFile(file, 'HF_TOKEN=from-the-file');
    const step = stepThat(async (token = 'none') => ({ answer: token }));
    expect((await runInProcess(step, argv(file))).results).toEqual({ answer: 'from-the-file' });
    const missing = await runInProcess(step, argv(join(dir, 'missing')));
    expect([missing.exitCode, missing.stdout]).toEqual([2, '']);
    expect(JSON.parse(missing.stderr).msg).toContain(`failed to read --env-file ${join(dir, 'missing')}`);
  });

  test('a log file that goes away under the run ends neither the work nor the log', async () => {
    const logFile = join(dir, 'logs', 'log');
    await mkdir(join(dir, 'logs'));
    const step = stepThat(async () => {
      await rm(join(dir, 'logs'), { recursive: true });
      throw new StepError('denied', 'failed to probe: no');
    });
    const { exitCode, stderr } = await runInProcess(step, ['--log-file', logFile]);
    expect(exitCode).toBe(4);
    expect(stderr.match(/goes on without --log-file/g)).toHaveLength(1);
    expect(stderr).toContain('failed to probe: no');
  });

  test('calls what nobody foresaw a bug, with a stack', async () => {
    const step = stepThat(async () => {
      throw new TypeError('x is not a function');
    });
    const { exitCode, stderr } = await runInProcess(step, []);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('step.test.ts');
  });

  test('refuses to end with a result that it did not declare, that is missing or too large', async () => {
    const other = stepThat(async () => ({ other: '1' }) as unknown as Record<'answer', string>);
    expect((await runInProcess(other, [])).exitCode).toBe(1);
    const large = stepThat(async () => ({ answer: 'x'.repeat(3000) }));
    expect((await runInProcess(large, ['--results-dir', dir])).exitCode).toBe(1);
  });

  test.each(['json', 'pretty'])('says no secret, in whatever form, as %s', async (format) => {
    const step = stepThat(async (token) => {
      throw new StepError('denied', `failed to use ${token}`, { hint: `not ${token}`, cause: new Error(String(token)) });
    });
    const logFile = join(dir, 'log');
    const { stdout, stderr } = await runInProcess(step, ['--log-level', 'trace', '--log-format', format, '--log-file', logFile], {
      HF_TOKEN: secret,
    });
    const all = stdout + stderr + (await readFile(logFile, 'utf8'));
    expect(all).toContain('**redacted**');
    const base64 = Buffer.from(secret).toString('base64').replace(/=+$/, '');
    for (const form of [secret, encodeURIComponent(secret), base64]) expect(all).not.toContain(form);
  });

  test('a server cannot forge a log line', () => {
    const lines: string[] = [];
    const log = createLog({ level: 'info', format: 'pretty', redactor: new Redactor(), write: (line) => lines.push(line) });
    log.warn({ file: 'a\n12:00:00 info  all is well', other: '\u001b[2Jx' }, 'a name from\noutside');
    expect(lines.length).toBe(1);
    expect(lines[0]).not.toContain('\n');
    expect(lines[0]).not.toContain('\u001b[2J');
  });

  test('knows the steps by name and alias, and says what there is', async () => {
    const version = await new Program('modelferry', ['register', '--version']).ended;
    expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const unknown = await new Program('modelferry', ['regster']).ended;
    expect([unknown.exitCode, unknown.stderr]).toEqual([2, expect.stringContaining('register')]);
    expect((await new Program('modelferry', [])).ended).toBeDefined();
  });
});

test('an older Node is told so in one line, before anything is tried', async () => {
  const older = join(dir, 'older.cjs');
  await writeFile(older, "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '24.4.9' } });");
  for (const program of ['modelferry', 'register-in-model-registry']) {
    const { exitCode, stdout, stderr } = await new Program(program, ['--help'], { NODE_OPTIONS: `--require=${older}` }).ended;
    expect([exitCode, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^failed to start: modelferry needs Node 24\.5 or newer, and this is 24\.4\.9 \(.+\)\n$/);
  }
});

describe('progress', () => {
  const lines: string[] = [];
  const log = createLog({ level: 'info', format: 'json', redactor: new Redactor(), write: (line) => lines.push(line) });

  test('draws a bar with rate and time left on a terminal, and tells Argo done/total in bytes', async () => {
    const drawn: string[] = [];
    const file = join(dir, 'progress');
    const progress = new Progress({ log, draw: (line) => drawn.push(line), file });
    progress.start('download', 4_000_000_000);
    progress.add(1_000_000_000);
    progress.end();
    expect(drawn.some((line) => /download \[###-+\] 25% 1\.00 GB of 4\.00 GB/.test(line))).toBe(true);
    expect(drawn.at(-1)).toBe('');
    expect(await readFile(file, 'utf8')).toBe('1000000000/4000000000\n');
  });

  test('never says more than all, and is no hindrance when its file cannot be written', async () => {
    const file = join(dir, 'nowhere', 'progress');
    const progress = new Progress({ log, file });
    progress.start('upload', 10);
    progress.add(20);
    progress.end();
    expect(lines.filter((line) => line.includes('"error"'))).toEqual([]);
  });

  test('units are for people', () => {
    expect([0, 999, 1000, 4_400_000_000].map(showBytes)).toEqual(['0 B', '999 B', '1.00 kB', '4.40 GB']);
    expect([500, 80_000, 3_720_000].map(showDuration)).toEqual(['1s', '1m20s', '1h02m']);
  });
});
