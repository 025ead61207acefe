import { randomBytes } from 'node:crypto';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { StepError } from '../lib/errors.ts';
import { createLog, Redactor } from '../lib/log.ts';
import { closeNetwork } from '../lib/network.ts';
import { registryUrl } from '../lib/registry/connection.ts';
import { textProperty } from '../lib/registry/properties.ts';
import { abandon, complete, type Details, type Registration, reserve, type Subject } from '../lib/registry/registration.ts';
import { type Change, Registry } from '../lib/registry/registry.ts';
import { basePath, FakeRegistry } from './fakes/registry.ts';
import { FakeServer } from './fakes/server.ts';

const log = createLog({ level: 'silent', format: 'json', redactor: new Redactor(), write: () => {} });
const open = (url: string, more: { token?: string; retries?: number } = {}) =>
  new Registry({ url, retries: 3, stallTimeout: 5_000, signal: new AbortController().signal, log, ...more });

/** The real server has no DELETE: what a test makes there has a name of its own. */
const unique = (name: string) => `${name}-${randomBytes(6).toString('hex')}`;
const commit = (digit: string) => digit.repeat(40);
const manifest = 'f'.repeat(64);

function subjectOf(name: string, more: Partial<Subject> & { repo?: string; commit?: string } = {}): Subject {
  const version = more.version ?? (more.commit ?? commit('a')).slice(0, 12);
  const identity = more.identity ?? { repo: more.repo ?? `acme/${name}`, commit: more.commit ?? commit('a') };
  return { identity, name, version, uri: more.uri ?? `s3://models/model-data/${name}/${version}/` };
}

function details(more: Partial<Details['model']> = {}): Details {
  const properties = { source: textProperty('huggingface') };
  return {
    model: { fields: { license: 'mit', tasks: ['text-generation'], language: ['en', 'de'] }, properties, ...more },
    version: { fields: { author: 'ann' }, properties: { ...properties, 'modelferry.commit': textProperty(commit('a')) } },
    artifact: { fields: { storageKey: 'models-secret' }, properties: { 'modelferry.manifest_sha256': textProperty(manifest) } },
  };
}

const real = process.env.TEST_MODEL_REGISTRY_URL;
const kinds = [...(['v0.2.22', 'v0.3'] as const), ...(real ? (['real'] as const) : [])];

describe.each(kinds)('registry %s', (kind) => {
  let fake: FakeRegistry | undefined;
  let url: string;
  let registry: Registry;
  beforeAll(async () => {
    fake = kind === 'real' ? undefined : await new FakeRegistry({ mode: kind }).listen();
    url = fake?.origin ?? String(real);
    registry = open(url);
  });
  afterAll(async () => {
    await fake?.close();
    closeNetwork();
  });
  const writes = () => fake?.server.seen(/^(POST|PATCH)/).length ?? 0;

  test('reserve leaves the artifact pending, complete makes it live with all that is known', async () => {
    const subject = subjectOf(unique('llama'));
    const reserved = await reserve(registry, subject, details());
    expect(reserved.artifact).toMatchObject({ state: 'PENDING', uri: subject.uri, name: subject.name });
    expect(reserved.artifact.externalId).toBeUndefined();

    const done = await complete(registry, subject, details(), manifest);
    const ids = ({ model, version, artifact }: typeof done) => [model.id, version.id, artifact.id];
    expect(ids(done)).toEqual(ids(reserved));
    expect(await registry.get('model', done.model.id)).toMatchObject({
      name: subject.name,
      externalId: `hf:acme/${subject.name}#${subject.name}`,
      state: 'LIVE',
      license: 'mit',
      tasks: ['text-generation'],
      language: ['en', 'de'],
      customProperties: { source: { metadataType: 'MetadataStringValue', string_value: 'huggingface' } },
    });
    expect(await registry.get('version', done.version.id)).toMatchObject({
      name: subject.version,
      registeredModelId: done.model.id,
      externalId: `hf:acme/${subject.name}@${commit('a')}:none#${subject.name}/${subject.version}`,
      author: 'ann',
      customProperties: { 'modelferry.commit': textProperty(commit('a')) },
    });
    expect(await registry.get('artifact', done.artifact.id)).toMatchObject({
      state: 'LIVE',
      uri: subject.uri,
      externalId: `${subject.uri}#${manifest}`,
      storageKey: 'models-secret',
    });
  });

  test('a rerun writes nothing, and reserving what is live leaves it live', async () => {
    const subject = subjectOf(unique('llama'));
    const first = await complete(registry, subject, details(), manifest);
    const before = writes();
    const again = await complete(registry, subject, details(), manifest);
    expect((await reserve(registry, subject, details())).artifact.state).toBe('LIVE');
    expect(again.artifact.lastUpdateTimeSinceEpoch).toBe(first.artifact.lastUpdateTimeSinceEpoch);
    expect(writes()).toBe(before);
  });

  test('two runs at once make one model, one version, one artifact', async () => {
    const subject = subjectOf(unique('llama'));
    const done = await Promise.all(Array.from({ length: 4 }, () => complete(registry, subject, details(), manifest)));
    expect(new Set(done.map(({ model }) => model.id)).size).toBe(1);
    expect(new Set(done.map(({ version }) => version.id)).size).toBe(1);
    expect(new Set(done.map(({ artifact }) => artifact.id)).size).toBe(1);
    expect(await registry.get('artifact', done[0]!.artifact.id)).toMatchObject({ state: 'LIVE' });
  });

  test('what others have written stays: properties of every type, card fields, an archived state', async () => {
    const subject = subjectOf(unique('llama'));
    const theirs = {
      stage: textProperty('prod'),
      label: textProperty(''),
      rank: { metadataType: 'MetadataIntValue', int_value: '7' },
      size: { metadataType: 'MetadataDoubleValue', double_value: 123456789012 },
      ok: { metadataType: 'MetadataBoolValue', bool_value: true },
      more: { metadataType: 'MetadataStructValue', struct_value: Buffer.from('{"a":[1]}').toString('base64') },
    };
    const made = await registry.create('model', { name: subject.name, license: 'custom', state: 'ARCHIVED', customProperties: theirs });
    const { version } = await reserve(registry, subject, details());
    await registry.change('version', version, {}, { note: textProperty('kept') });

    const done = await complete(registry, subject, details(), manifest);
    expect(done.model.id).toBe(made?.id);
    const model = await registry.get('model', done.model.id);
    expect(model).toMatchObject({ license: 'custom', state: 'ARCHIVED', externalId: `hf:acme/${subject.name}#${subject.name}` });
    expect(model?.customProperties).toEqual({ ...made?.customProperties, source: textProperty('huggingface') });
    expect((await registry.get('version', done.version.id))?.customProperties).toMatchObject({ note: textProperty('kept') });
  });

  test('names that a pattern would take for one another are told apart', async () => {
    const tail = randomBytes(4).toString('hex');
    const names = [`Llama-3_${tail}`, `Llama_3_${tail}`, `Llama.3_${tail}`, `Llama%${tail}`, `Lla'ma_${tail}`, `Lla"ma_${tail}`];
    for (const name of names) await complete(registry, subjectOf(name), details(), manifest);
    const found = [];
    for (const name of names) found.push(await registry.find('model', name));
    expect(found.map((model) => model?.name)).toEqual(names);
    const model = found[0]!;
    for (const version of ['1.0', '1_0', '1-0']) await reserve(registry, { ...subjectOf(names[0]!), version }, details());
    for (const version of ['1.0', '1_0', '1-0']) expect((await registry.find('version', version, model.id))?.name).toBe(version);
    expect(await registry.find('version', '1_1', model.id)).toBeUndefined();
    expect(await registry.find('model', `Llama__${tail}`)).toBeUndefined();
  });

  test('a name beyond ASCII is found', async () => {
    const subject = subjectOf(unique('ñandú'));
    const first = await reserve(registry, subject, details());
    expect((await reserve(registry, subject, details())).model.id).toBe(first.model.id);
  });

  test('a name that holds another source is refused, and nothing below it is made', async () => {
    const subject = subjectOf(unique('llama'));
    await reserve(registry, subject, details());
    const other = subjectOf(subject.name, { repo: 'other/llama', version: 'new' });
    await expect(reserve(registry, other, details())).rejects.toMatchObject({
      kind: 'refused',
      hint: expect.stringContaining('--model-name'),
    });
    const model = await registry.find('model', subject.name);
    expect(await registry.find('version', 'new', model?.id)).toBeUndefined();
  });

  test('a version that holds another commit or method is refused', async () => {
    const subject = subjectOf(unique('llama'), { version: '1.0' });
    await reserve(registry, subject, details());
    const wanted = { kind: 'refused', hint: expect.stringContaining('--model-version') };
    await expect(
      reserve(registry, { ...subject, identity: { ...subject.identity, commit: commit('b') } }, details()),
    ).rejects.toMatchObject(wanted);
    await expect(reserve(registry, { ...subject, identity: { ...subject.identity, method: 'w4a16' } }, details())).rejects.toMatchObject(
      wanted,
    );
  });

  test('a name that differs by case only is refused where the database takes both for one', async () => {
    const subject = subjectOf(unique('Llama'));
    await reserve(registry, subject, details());
    const lower = subjectOf(subject.name.toLowerCase());
    await expect(reserve(registry, lower, details())).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('case only'),
    });
  });

  test('a version that is live somewhere else is refused; a pending one moves', async () => {
    const subject = subjectOf(unique('llama'));
    const moved = { ...subject, uri: subject.uri.replace('models', 'others') };
    await reserve(registry, subject, details());
    expect((await reserve(registry, moved, details())).artifact.uri).toBe(moved.uri);
    await complete(registry, moved, details(), manifest);
    await expect(reserve(registry, subject, details())).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringContaining(moved.uri),
    });
  });

  test('other bytes at the same place (published with --replace) become the artifact’s', async () => {
    const subject = subjectOf(unique('llama'));
    const first = await complete(registry, subject, details(), manifest);
    const after = await complete(registry, subject, details(), 'e'.repeat(64));
    expect(after.artifact).toMatchObject({ id: first.artifact.id, state: 'LIVE', externalId: `${subject.uri}#${'e'.repeat(64)}` });
  });

  test('the same bytes at the same place under a second name or version are refused, and nothing is made', async () => {
    for (const name of [unique('llama'), unique('ñandú')]) {
      const subject = subjectOf(name, { version: '1.0' });
      const { model, artifact } = await complete(registry, subject, details(), manifest);
      const [second, renamed] = [
        { ...subject, version: '2.0' },
        { ...subject, name: `${name}-2` },
      ];
      const before = writes();
      for (const twin of [second, renamed]) {
        const failing = complete(registry, twin, details(), manifest);
        await expect(failing).rejects.toMatchObject({
          kind: 'refused',
          message: expect.stringContaining(`artifact ${artifact.id} has it`),
        });
      }
      expect(writes()).toBe(before);
      expect(await registry.find('version', second.version, model.id)).toBeUndefined();
      expect(await registry.find('model', renamed.name)).toBeUndefined();
    }
  });

  test('of two runs that register the same bytes under two versions at once the later leaves nothing pending', async () => {
    const subject = subjectOf(unique('llama'), { version: '1.0' });
    const second = { ...subject, version: '2.0' };
    let first: Registration | undefined;
    const late = new Proxy(registry, {
      get(target, name) {
        if (name !== 'findByExternalId') return Reflect.get(target, name).bind(target);
        return async (...args: Parameters<Registry['findByExternalId']>) => {
          const seen = await target.findByExternalId(...args);
          first ??= await complete(target, subject, details(), manifest);
          return seen;
        };
      },
    });
    await expect(complete(late, second, details(), manifest)).rejects.toMatchObject({ kind: 'refused' });
    const version = await registry.find('version', second.version, first?.model.id);
    expect(await registry.find('artifact', second.name, version?.id)).toMatchObject({ state: 'ABANDONED' });
    expect(await registry.get('artifact', String(first?.artifact.id))).toMatchObject({ state: 'LIVE' });
  });

  test('names and URIs that make externalIds over 255 characters are registered and found again', async () => {
    const subject = subjectOf(unique('l'.repeat(100)), { repo: `${'o'.repeat(90)}/${'r'.repeat(90)}` });
    subject.uri = `s3://models/${'p'.repeat(600)}/`;
    const done = await complete(registry, subject, details(), manifest);
    expect(done.artifact.externalId).toHaveLength(255);
    expect((await complete(registry, subject, details(), manifest)).artifact.id).toBe(done.artifact.id);
  });

  test('abandon ends a reservation by id or by names, and the next run takes it up', async () => {
    const subject = subjectOf(unique('llama'));
    const { artifact } = await reserve(registry, subject, details());
    expect(await abandon(registry, { artifactId: artifact.id }, log)).toBe(artifact.id);
    expect(await registry.get('artifact', artifact.id)).toMatchObject({ state: 'ABANDONED' });
    expect((await reserve(registry, subject, details())).artifact).toMatchObject({ id: artifact.id, state: 'PENDING' });
    expect(await abandon(registry, subject, log)).toBe(artifact.id);
    expect((await complete(registry, subject, details(), manifest)).artifact).toMatchObject({ id: artifact.id, state: 'LIVE' });
  });

  test('abandon does nothing once it is live, and when there is nothing', async () => {
    const subject = subjectOf(unique('llama'));
    const { artifact } = await complete(registry, subject, details(), manifest);
    expect(await abandon(registry, { artifactId: artifact.id }, log)).toBeUndefined();
    expect(await abandon(registry, subject, log)).toBeUndefined();
    expect(await registry.get('artifact', artifact.id)).toMatchObject({ state: 'LIVE' });
    expect(await abandon(registry, { artifactId: '999999999' }, log)).toBeUndefined();
    expect(await abandon(registry, subjectOf(unique('none')), log)).toBeUndefined();
  });

  test('abandon leaves alone what another source holds under the same names', async () => {
    const subject = subjectOf(unique('llama'), { version: '1.0' });
    await reserve(registry, subject, details());
    const other = { ...subject, identity: { ...subject.identity, commit: commit('b') } };
    expect(await abandon(registry, other, log)).toBeUndefined();
  });

  test('a registration that became live between abandon’s look and its change is live again', async () => {
    const subject = subjectOf(unique('llama'));
    const { artifact } = await reserve(registry, subject, details());
    const late = new Proxy(registry, {
      get(target, name) {
        if (name !== 'get') return Reflect.get(target, name).bind(target);
        return async (...args: Parameters<Registry['get']>) => {
          const seen = await target.get(...args);
          await complete(registry, subject, details(), manifest);
          return seen;
        };
      },
    });
    expect(await abandon(late, { artifactId: artifact.id }, log)).toBeUndefined();
    expect(await registry.get('artifact', artifact.id)).toMatchObject({ state: 'LIVE', externalId: `${subject.uri}#${manifest}` });
  });

  test('a name with ":" or "/" is refused before anything is asked', async () => {
    for (const name of ['a:b', 'a/b', '', 'x'.repeat(300)]) {
      await expect(reserve(registry, { ...subjectOf('x'), name }, details())).rejects.toMatchObject({ kind: 'usage' });
      await expect(reserve(registry, { ...subjectOf('x'), version: name }, details())).rejects.toMatchObject({ kind: 'usage' });
    }
  });

  test('a dry run tells what it would make, and makes nothing', async () => {
    const subject = subjectOf(unique('llama'));
    const before = writes();
    const told: string[] = [];
    const dryRun = ({ action, record }: Change) => told.push(`${action} ${record}`);
    const dry = new Registry({ url, retries: 0, stallTimeout: 5_000, signal: new AbortController().signal, log, dryRun });
    await complete(dry, subject, details(), manifest);
    for (const words of ['registered model', 'model version', 'model artifact']) expect(told).toContain(`make ${words}`);
    expect(writes()).toBe(before);
    expect(await registry.find('model', subject.name)).toBeUndefined();
  });
});

describe('interrupted and disturbed', () => {
  let fake: FakeRegistry;
  beforeEach(async () => {
    fake = await new FakeRegistry().listen();
  });
  afterEach(async () => {
    await fake.close();
    closeNetwork();
  });

  test('a run that is cut between any two requests is completed by the next', async () => {
    const whole = open(fake.origin, { retries: 0 });
    await complete(whole, subjectOf('whole'), details(), manifest);
    const requests = fake.requests.length;
    expect(requests).toBeGreaterThan(6);
    for (let at = 0; at < requests; at += 1) {
      for (const answered of [true, false]) {
        const subject = subjectOf(`cut-${at}-${answered}`);
        // -1: cut before it is done; 0: done, but its answer is lost.
        // More than once, because a connection that ends as it is used again is no try.
        const clear = fake.fail({ on: /./, skip: at, times: 9, cutAfter: answered ? 0 : -1 });
        await expect(complete(whole, subject, details(), manifest)).rejects.toMatchObject({ kind: 'transient' });
        clear();
        const done = await complete(whole, subject, details(), manifest);
        expect(done.artifact).toMatchObject({ state: 'LIVE', externalId: `${subject.uri}#${manifest}` });
      }
    }
    expect(fake.records('model')).toHaveLength(1 + 2 * requests);
    expect(fake.records('version')).toHaveLength(1 + 2 * requests);
    expect(fake.records('artifact').filter(({ state }) => state === 'LIVE')).toHaveLength(1 + 2 * requests);
  });

  test('lost answers are got over in one run too', async () => {
    fake.fail({ on: /^POST/, times: 1, cutAfter: 0 });
    fake.fail({ on: /^PATCH/, times: 1, cutAfter: 0 });
    const done = await complete(open(fake.origin), subjectOf('llama'), details(), manifest);
    expect(done.artifact.state).toBe('LIVE');
    expect(fake.records('model')).toHaveLength(1);
  });

  test('a registry that warms up, limits the rate or fails is waited for', async () => {
    fake.warmUp(1);
    fake.fail({ on: /^POST/, times: 1, answer: { status: 429, headers: { 'retry-after': '0' } } });
    fake.fail({ on: /^PATCH/, times: 1, answer: { status: 500, body: '{"code":"Internal Server Error","message":"deadlock"}' } });
    expect((await complete(open(fake.origin), subjectOf('llama'), details(), manifest)).artifact.state).toBe('LIVE');
  });

  test('one that stays away is transient, with its words', async () => {
    fake.warmUp(99);
    const failing = reserve(open(fake.origin, { retries: 1 }), subjectOf('llama'), details());
    await expect(failing).rejects.toMatchObject({ kind: 'transient', message: expect.stringContaining('503: upstream connect error') });
    expect(fake.requests).toHaveLength(2);
  });

  test('lists of many pages are read to their end', async () => {
    const registry = open(fake.origin);
    for (let at = 0; at < 230; at += 1) await registry.create('model', { name: `m${at}` });
    expect(await registry.list('model')).toHaveLength(230);
    expect((await registry.list('model')).at(-1)?.name).toBe('m229');
  });

  test('a server that hands out one page for ever does not hold us', async () => {
    const body = JSON.stringify({ items: [], nextPageToken: 'again' });
    fake.fail({ on: /^GET/, times: 99, answer: { status: 200, body } });
    expect(await open(fake.origin).list('model')).toEqual([]);
  });

  test('an externalId that somebody set on another record is named', async () => {
    const registry = open(fake.origin);
    await registry.create('model', { name: 'squatter', externalId: 'hf:acme/llama#llama' });
    const failing = reserve(registry, subjectOf('llama'), details());
    await expect(failing).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('"squatter"') });
  });
});

describe('access', () => {
  let fake: FakeRegistry;
  beforeAll(async () => {
    fake = await new FakeRegistry({ token: 'right-token' }).listen();
  });
  afterAll(async () => {
    await fake.close();
    closeNetwork();
  });

  test('the token goes along', async () => {
    expect((await reserve(open(fake.origin, { token: 'right-token' }), subjectOf('llama'), details())).artifact.state).toBe('PENDING');
  });

  test.each([
    ['none', undefined, 401],
    ['a wrong one', 'wrong-token', 403],
  ])('%s is denied, with the mesh’s hint, and not tried again', async (_, token, status) => {
    const before = fake.requests.length;
    const failing = reserve(open(fake.origin, token === undefined ? {} : { token }), subjectOf('llama'), details());
    const error = (await failing.catch((reason) => reason)) as StepError;
    expect(error).toMatchObject({ kind: 'denied', hint: expect.stringContaining('AuthorizationPolicy') });
    expect(error.message).toContain(`${status}`);
    expect(error.message).not.toContain('wrong-token');
    expect(fake.requests.length - before).toBe(1);
  });
});

describe('a wrong address', () => {
  const hint = expect.stringContaining('http://model-registry-service.kubeflow.svc.cluster.local:8080');
  let page: FakeServer;
  let answer: { status: number; headers: Record<string, string>; body: string };
  beforeAll(async () => {
    page = await new FakeServer(async (request, response) => {
      request.resume();
      response.writeHead(answer.status, answer.headers);
      response.end(answer.body);
    }).listen();
  });
  afterAll(async () => {
    await page.close();
    closeNetwork();
  });
  const ask = (url: string) => reserve(open(url, { token: 'secret-token', retries: 1 }), subjectOf('llama'), details());

  test('a database speaks no HTTP', async () => {
    // The first packet of MySQL's protocol: length, sequence 0, protocol 10, its version.
    const greeting = Buffer.concat([Buffer.from([0x4a, 0, 0, 0, 0x0a]), Buffer.from('8.0.36\0'), Buffer.alloc(62, 1)]);
    const sockets: Socket[] = [];
    const database = createTcpServer((socket) => {
      sockets.push(socket.on('error', () => {}));
      socket.write(greeting);
    });
    await new Promise<void>((resolve) => database.listen(0, '127.0.0.1', resolve));
    const { port } = database.address() as AddressInfo;
    await expect(ask(`http://127.0.0.1:${port}`)).rejects.toMatchObject({ kind: 'usage', message: expect.stringContaining('HTTP'), hint });
    await expect(ask(`https://127.0.0.1:${port}`)).rejects.toMatchObject({ kind: 'usage', message: expect.stringContaining('TLS'), hint });
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => database.close(resolve));
  });

  test.each([
    ['a login page', 200, { 'content-type': 'text/html' }, '<html>Log in</html>'],
    ['another site’s 404', 404, { 'content-type': 'text/html' }, '<html>not found</html>'],
    ['JSON of something else', 200, { 'content-type': 'application/json' }, '{"hello":"world"}'],
    ['a redirect to a login page', 302, { location: 'https://login.example.com/auth?session=abc' }, ''],
    ['a server that wants TLS', 400, { 'content-type': 'text/plain' }, 'Client sent an HTTP request to an HTTPS server.'],
  ])('%s', async (_, status, headers, body) => {
    answer = { status, headers: headers as Record<string, string>, body };
    const error = (await ask(page.origin).catch((reason) => reason)) as StepError;
    expect(error.kind).toBe('usage');
    expect(error.message).not.toMatch(/session=abc|secret-token/);
  });

  test('a redirect is not followed with the token', async () => {
    answer = { status: 307, headers: { location: `${page.origin}/elsewhere` }, body: '' };
    const before = page.requests.length;
    await expect(ask(page.origin)).rejects.toMatchObject({ kind: 'usage', hint });
    expect(page.requests.length - before).toBe(1);
  });

  test.each([
    ['http://host:8080', `http://host:8080${basePath}`],
    ['http://host:8080/', `http://host:8080${basePath}`],
    [`https://gw.example.com/registry`, `https://gw.example.com/registry${basePath}`],
    [`http://host${basePath}/`, `http://host${basePath}`],
    ['http://host/api/model_registry', `http://host${basePath}`],
  ])('%s means %s', (given, url) => {
    expect(registryUrl(given)).toBe(url);
  });

  test.each(['host:8080', 'mysql://host:3306', 'http://me:pass@host', 'http://host/?token=x'])('%s is none', (given) => {
    expect(() => registryUrl(given)).toThrow(expect.objectContaining({ kind: 'usage', hint }));
    expect(() => registryUrl(given)).not.toThrow(/pass/);
  });
});
