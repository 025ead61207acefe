import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { StepError } from '../lib/errors.ts';
import { templateFault } from '../lib/naming.ts';
import { envName, kebab, schema } from '../lib/params/declare.ts';
import { readParams } from '../lib/params/read.ts';
import { download } from '../tasks/download/step.ts';
import { commands } from '../tasks/index.ts';
import { runInProcess } from './fakes/program.ts';

const declared = schema(
  {
    modelId: { type: 'string', description: 'Model.', pattern: '^[a-z]+/[a-z]+$', 'x-env': ['HUGGINGFACE_MODEL'] },
    allowPatterns: { type: 'array', items: { type: 'string' }, description: 'Patterns.', default: [] },
    partSize: { type: 'string', 'x-unit': 'bytes', description: 'Bytes.', default: '16MiB' },
    stallTimeout: { type: 'string', 'x-unit': 'ms', description: 'Time.', default: '60s' },
    concurrency: { type: 'integer', minimum: 1, description: 'Connections.', default: 8 },
    replace: { type: 'boolean', description: 'Replace.', default: false },
    method: {
      type: 'string',
      enum: ['none', 'w4a16'],
      description: 'Method.',
      default: 'none',
      'x-env': ['COMPRESS_MODEL'],
      'x-words': { true: 'w4a16', false: 'none' },
    },
    s3CredentialsDir: { type: 'string', description: 'Folder.' },
    hubToken: {
      type: 'string',
      description: 'Token.',
      'x-secret': true,
      'x-env': ['HF_TOKEN'],
      'x-file-env': ['HF_TOKEN_PATH'],
      'x-credentials-dir': true,
    },
  },
  ['modelId'],
);
const read = (argv: string[], env: Record<string, string> = {}, envFile: Record<string, string> = {}) =>
  readParams(declared, { argv, env, envFile });
const id = ['--model-id', 'org/name'];

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'params-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

describe('parameters', () => {
  test('names go from code to flag to environment', () => {
    expect(['modelId', 's3KmsKeyId', 'manifestSha256', 'caBundle'].map(kebab)).toEqual([
      'model-id',
      's3-kms-key-id',
      'manifest-sha256',
      'ca-bundle',
    ]);
    expect(envName('s3EndpointUrl')).toBe('S3_ENDPOINT_URL');
  });

  test('a flag beats the environment, which beats its other names, an env file and the default', () => {
    expect(read(id, { MODEL_ID: 'a/b', HUGGINGFACE_MODEL: 'c/d' }).values.modelId).toBe('org/name');
    expect(read([], { MODEL_ID: 'a/b', HUGGINGFACE_MODEL: 'c/d' }).values.modelId).toBe('a/b');
    expect(read([], { HUGGINGFACE_MODEL: 'c/d' }, { HUGGINGFACE_MODEL: 'e/f' }).values.modelId).toBe('c/d');
    expect(read([], {}, { MODEL_ID: 'e/f' }).values.modelId).toBe('e/f');
    expect(read(id).values).toEqual({
      modelId: 'org/name',
      allowPatterns: [],
      partSize: 16 * 1024 ** 2,
      stallTimeout: 60_000,
      concurrency: 8,
      replace: false,
      method: 'none',
    });
  });

  test('an empty value is not given: engines send it for what is optional', () => {
    expect(read(['--model-id', '', '--concurrency', '', '--part-size='], { MODEL_ID: 'a/b', REPLACE: '' }).values).toMatchObject({
      modelId: 'a/b',
      concurrency: 8,
      replace: false,
    });
  });

  test.each([
    ['["*.json", "a b.txt"]', ['*.json', 'a b.txt']],
    ['*.json *.txt', ['*.json', '*.txt']],
    ['*.json,*.txt', ['*.json', '*.txt']],
    ['[a-z]*.json', ['[a-z]*.json']],
  ])('a list may be %s', (text, words) => {
    expect(read([...id, '--allow-patterns', text]).values.allowPatterns).toEqual(words);
  });

  test.each([
    [['--replace'], true],
    [['--replace', 'false'], false],
    [['--replace=true'], true],
    [['--no-replace'], false],
  ])('a boolean may be %s', (argv, value) => {
    expect(read([...id, ...argv]).values.replace).toBe(value);
  });

  test('quantities have units', () => {
    expect(read([...id, '--part-size', '64Mi', '--stall-timeout', '1.5m']).values).toMatchObject({
      partSize: 64 * 1024 ** 2,
      stallTimeout: 90_000,
    });
  });

  test('older words mean new ones', () => {
    expect(read(id, { COMPRESS_MODEL: 'true' }).values.method).toBe('w4a16');
    expect(read(id, { COMPRESS_MODEL: 'false' }).values.method).toBe('none');
  });

  test('every fault is told at once, by the name that the user gave', () => {
    const argv = ['--concurrency', '0', '--nope', '--part-size', 'big', '--method', 'x', 'word', '--stall-timeout=1', '--stall-timeout=2'];
    const said = (() => {
      try {
        return read(argv, { REPLACE: 'yes' });
      } catch (error) {
        return error;
      }
    })();
    expect(said).toBeInstanceOf(StepError);
    expect((said as StepError).kind).toBe('usage');
    for (const part of [
      '--model-id is missing',
      'HUGGINGFACE_MODEL',
      '--concurrency: 0',
      '--nope',
      '--part-size: "big"',
      '--method: "x" is none of',
      '"word"',
      '--stall-timeout is given 2 times',
      'REPLACE: "yes"',
    ]) {
      expect((said as StepError).message).toContain(part);
    }
  });

  test('a secret has no flag; it comes from the environment, a file that it names, or the credentials folder, and is never shown', () => {
    const secret = 'hf_secretsecret';
    const file = join(dir, 'HF_TOKEN');
    writeFileSync(file, `${secret}\n`);
    const told: string[] = [];
    const env = { HF_TOKEN: secret, ALLOW_PATTERNS: secret };
    expect(readParams(declared, { argv: id, env, onSecret: (each) => told.push(each) }).values.hubToken).toBe(secret);
    expect(told).toEqual([secret]);
    // Told before what is wrong is, in whose words it may stand.
    expect(() => readParams(declared, { argv: ['--model-id', secret], env, onSecret: (each) => told.push(each) })).toThrow();
    expect(told).toEqual([secret, secret]);
    expect(() => read([...id, secret])).toThrow(/^(?!.*secretsecret).*HF_TOKEN/s);
    expect(read(id, { HF_TOKEN_FILE: file }).values.hubToken).toBe(secret);
    expect(read(id, { HF_TOKEN_PATH: file }).values.hubToken).toBe(secret);
    expect(read([...id, '--s3-credentials-dir', dir]).values.hubToken).toBe(secret);
    expect(() => read([...id, '--hub-token', secret])).toThrow(/^(?!.*secretsecret).*unknown flag --hub-token/s);
  });

  test('a line break behind a secret in the environment is none of it, one inside is a fault', () => {
    expect(read(id, { HF_TOKEN: ' hf_secretsecret\r\n' }).values.hubToken).toBe('hf_secretsecret');
    expect(read(id, { HF_TOKEN: '\n' }).values.hubToken).toBeUndefined();
    expect(() => read(['--concurrency', '0'], { HF_TOKEN: 'hf_secret\nsecret' })).toThrow(
      /^(?!.*hf_secret).*HF_TOKEN: it holds line breaks.*--model-id is missing.*--concurrency/s,
    );
  });
});

describe('every command', () => {
  test.each(commands.map(({ name, params }) => [name, params] as const))('%s declares what is a JSON Schema', (_, params) => {
    expect(new Ajv().validateSchema(params)).toBe(true);
  });

  test.each(commands.map((command) => [command.name, command] as const))(
    '%s says its flags, its version, and what is wrong with all of its parameters',
    async (_, command) => {
      const help = await runInProcess(command, ['--help']);
      expect(help.exitCode).toBe(0);
      for (const [name, param] of Object.entries(command.params.properties)) {
        expect(help.stdout.includes(`--${kebab(name)} `), name).toBe(param['x-secret'] === undefined);
        expect(help.stdout).toContain(envName(name));
      }
      // Nobody is shown a regular expression.
      expect(Object.entries(command.params.properties).filter(([, param]) => param.pattern && !param['x-shape'])).toEqual([]);
      expect((await runInProcess(command, ['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+/);
      const wrong = await runInProcess(command, ['--nope', '--log-level', 'loud']);
      expect(wrong.exitCode).toBe(2);
      for (const part of ['--nope', '--log-level']) expect(wrong.stderr).toContain(part);
    },
  );

  test('a value of another form is told which form it should have', async () => {
    const { exitCode, stderr } = await runInProcess(download, ['--model-id=https://huggingface.co/org/name', '--stall-timeout=0s']);
    expect(exitCode).toBe(2);
    expect(JSON.parse(stderr).msg).toBe(
      'failed to read parameters: --model-id: "https://huggingface.co/org/name" is not a repository such as org/name; ' +
        '--stall-timeout: "0s" is no quantity above 0 such as 30s',
    );
    expect((await runInProcess(download, ['--help'])).stdout.replace(/\s+/g, ' ')).toContain('words split by spaces or commas.');
  });

  test('parameters of one name are declared alike, and described in a sentence that fits a line', () => {
    const texts = new Map<string, string>();
    for (const { params } of commands.filter(({ name }) => name !== 'import')) {
      for (const [name, param] of Object.entries(params.properties)) {
        const text = JSON.stringify(param);
        expect(texts.get(name) ?? text, name).toBe(text);
        texts.set(name, text);
        const sentence = param.description.split('\n\n')[0] ?? '';
        expect(sentence.length, name).toBeLessThan(90);
        expect(sentence, name).toMatch(/\.$/);
      }
    }
  });
});

describe('what is wrong with the store', () => {
  const s3 = { AWS_ACCESS_KEY_ID: 'key', S3_TAGS: 'a', S3_ENDPOINT_URL: 'ftp://store', KEY_TEMPLATE: 'x/{nope}', RETRIES: 'no' };
  const ofS3 = ['AWS_SECRET_ACCESS_KEY', '--s3-tags', '--s3-endpoint-url', 'unknown word {nope}', 'RETRIES: "no"'];

  test.each<[string, string, Record<string, string>]>([
    ['upload', '--s3-bucket is missing', {}],
    ['sync', '--model-id is missing', {}],
    ['plan', '--model-id is missing', {}],
    ['finish', '--plan is missing', {}],
    ['prune', '--keep, --older-than or --leftovers', {}],
    ['compress', 'GROUP_SIZE', { METHOD: 'fp8-dynamic', FUSE_UPLOAD: 'true', GROUP_SIZE: 'x' }],
    ['register', '--phase reserve needs --model-id', { PHASE: 'reserve', MODEL_REGISTRY_URL: 'http://registry' }],
  ])('is told by %s together with all else, %s among it', async (name, own, env) => {
    const step = commands.find((command) => [command.name, ...command.aliases].includes(name));
    if (!step) throw new Error(`there is no ${name}`);
    const { exitCode, stdout, stderr } = await runInProcess(step, ['--nope'], { ...s3, ...env });
    expect([exitCode, stdout]).toEqual([2, '']);
    const { msg } = JSON.parse(stderr) as { msg: string };
    for (const part of ['unknown flag --nope', '--s3-bucket is missing', ...ofS3, own]) expect(msg).toContain(part);
  });

  test('is nothing where no store is needed', async () => {
    const register = commands.find(({ name }) => name === 'register-in-model-registry');
    const outcome = await register?.execute({
      argv: [],
      env: { KEY_TEMPLATE: 'x/{nope}', WORKSPACE: dir },
      stdout: () => {},
      stderr: () => {},
      terminal: false,
      signal: new AbortController().signal,
      command: 'register',
    });
    expect(outcome?.exitCode).toBe(0);
  });

  test.each([
    ['models/{name}', undefined],
    ['/models/{org}--{repo}/', undefined],
    ['x/{nope}', 'unknown word {nope}, words are {org} {repo} {name} {version} {commit}'],
    ['x/{name', 'a brace is open'],
    ['../{name}', 'leaves its folder'],
    ['.modelferry/{name}', 'lies in the control prefix'],
  ])('template %s: %s', (template, fault) => {
    const said = templateFault(template, '.modelferry');
    if (fault === undefined) expect(said).toBeUndefined();
    else expect(said).toContain(fault);
  });
});
