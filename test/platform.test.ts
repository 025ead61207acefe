import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { envName } from '../lib/params/declare.ts';
import { commands } from '../tasks/index.ts';

const root = join(import.meta.dirname, '..');
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const { version } = JSON.parse(read('package.json')) as { version: string };

interface Graph {
  spec: {
    schema: { kind: string; spec: Record<string, string> };
    resources: { id: string; template: { kind: string; spec?: unknown; rules?: unknown } }[];
  };
}
interface EnvVar {
  name: string;
  valueFrom?: { secretKeyRef?: { optional?: boolean } };
}
interface Container {
  name: string;
  image: string;
  command: string[];
  env: EnvVar[];
  securityContext: object;
}
const graphFiles = ['tenant', 'huggingface-model', 'ray-service'].map((name) => `workflows/kro/${name}.yaml`);
const graphs = new Map(graphFiles.map((file) => [file, parse(read(file)) as Graph]));
const graphOf = (kind: string) => [...graphs.values()].find(({ spec }) => spec.schema.kind === kind) as Graph;
const specOf = (kind: string) => Object.keys(graphOf(kind).spec.schema.spec);
/** What a graph makes of that id: its spec, and its rules where it is a Role of Kubernetes. */
function templateOf(kind: string, id: string): { spec: Record<string, unknown>; rules: unknown } {
  const { template } = graphOf(kind).spec.resources.find((each) => each.id === id) ?? {};
  if (template === undefined) throw new Error(`graph ${kind} has no ${id}`);
  return { spec: (template.spec ?? {}) as Record<string, unknown>, rules: template.rules };
}

/** Every fetch container anywhere in a document. */
function fetchers(value: unknown): Container[] {
  if (typeof value !== 'object' || value === null) return [];
  if ('command' in value && JSON.stringify(value.command).includes('/app/fetch.cjs')) return [value as Container];
  return Object.values(value).flatMap(fetchers);
}

describe('kro', () => {
  test.each(graphFiles)('%s uses what it declares, and all of it', (file) => {
    const { schema, resources } = (graphs.get(file) as Graph).spec;
    const used = new Set([...JSON.stringify(resources).matchAll(/schema\.spec\.(\w+)/g)].map(([, name]) => name));
    expect([...used].sort()).toEqual(Object.keys(schema.spec).sort());
    const ids = resources.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('the fields that people have in their values are there by these names', () => {
    expect(specOf('HuggingFaceModel')).toEqual(
      expect.arrayContaining([
        'modelId',
        's3Bucket',
        'namespace',
        'serviceAccount',
        'accountId',
        'region',
        'clusterName',
        'revision',
        'hfTokenSecret',
        'storageSize',
        'createNamespace',
        'createIdentity',
      ]),
    );
    expect(specOf('RayService')).toEqual(expect.arrayContaining(['modelCacheBucket', 'useModelCache']));
  });

  test("the workflow's parameters are import-model's", () => {
    const [template] = parseAllDocuments(read('workflows/import-model.yaml')).map((each) => each.toJS()) as [
      { metadata: { name: string }; spec: { arguments: { parameters: { name: string }[] } } },
    ];
    const spec = templateOf('HuggingFaceModel', 'download').spec as unknown as {
      workflowTemplateRef: object;
      arguments: { parameters: { name: string }[] };
    };
    expect(spec.workflowTemplateRef).toEqual({ name: template.metadata.name });
    const declared = template.spec.arguments.parameters.map(({ name }) => name);
    expect(declared).toEqual(expect.arrayContaining(spec.arguments.parameters.map(({ name }) => name)));
    expect(spec.arguments.parameters).toContainEqual({ name: 'key-template', value: 'models/{name}' });
  });

  test("a tenant's service account may do what that of the wiring may", () => {
    const role = parseAllDocuments(read('workflows/rbac.yaml')).map((each) => each.toJS() as { kind: string; rules: object[] });
    expect(templateOf('ModelFerryTenant', 'workflowRole').rules).toEqual(role.find(({ kind }) => kind === 'Role')?.rules);
  });

  test('policies are JSON, and that of Ray only reads', () => {
    const actions = (kind: string) => {
      const policy = JSON.parse(String(templateOf(kind, 'policy').spec.policyDocument)) as { Statement: { Action: string[] }[] };
      return policy.Statement.flatMap(({ Action }) => Action);
    };
    expect(actions('RayService')).toEqual(['s3:ListBucket', 's3:GetObject']);
    expect(actions('ModelFerryTenant')).toEqual(
      expect.arrayContaining(['s3:PutObject', 's3:AbortMultipartUpload', 's3:ListMultipartUploadParts']),
    );
    const trust = (kind: string) => templateOf(kind, 'role').spec.assumeRolePolicyDocument;
    expect(trust('RayService')).toBe(trust('ModelFerryTenant'));
  });

  test('the examples and the list give only what is declared, and all that is needed', () => {
    const examples = parseAllDocuments(read('workflows/kro/example.yaml')).map((each) => each.toJS() as { kind: string; spec: object });
    const [list] = parseAllDocuments(read('workflows/kro/from-values.yaml')).map((each) => each.toJS()) as [
      { spec: { arguments: { parameters: { name: string; value: string }[] } } },
    ];
    const [models, common] = list.spec.arguments.parameters.map(({ value }) => JSON.parse(value) as unknown) as [object[], object];
    const listed = models.map((entry) => {
      const { name: _, ...spec } = { ...common, ...entry } as Record<string, unknown>;
      return { kind: 'HuggingFaceModel', spec };
    });
    for (const { kind, spec } of [...examples, ...listed]) {
      const declared = graphOf(kind).spec.schema.spec;
      expect(Object.keys(declared)).toEqual(expect.arrayContaining(Object.keys(spec)));
      const needed = Object.keys(declared).filter((name) => declared[name]?.includes('required=true'));
      expect(Object.keys(spec)).toEqual(expect.arrayContaining(needed));
    }
  });
});

describe('pods that fetch', () => {
  const containers = ['workflows/kro/ray-service.yaml', 'workflows/ray/ray-service.yaml'].flatMap((file) =>
    fetchers(parse(read(file))).map((container, at) => [`${file} ${at}`, container] as const),
  );

  test('there are some', () => {
    expect(containers.length).toBe(3);
  });

  test.each(containers)('%s is locked down, with our image, and secrets that may be absent', (_, { image, env, securityContext }) => {
    expect(['schema.spec.fetchImage', `localhost/modelferry:${version}`]).toContain(image.replace(/^\$\{(.*)\}$/, '$1'));
    expect(securityContext).toMatchObject({ runAsNonRoot: true, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } });
    for (const { name, valueFrom } of env)
      if (/TOKEN|ACCESS_KEY/.test(name)) expect(valueFrom?.secretKeyRef, name).toMatchObject({ optional: true });
  });

  const fetchStep = commands.find(({ name }) => name === 'fetch');
  test.skipIf(fetchStep === undefined).each(containers)('%s gives parameters that fetch has', (_, { env }) => {
    const known = Object.keys(fetchStep?.params.properties ?? {}).map(envName);
    expect(known).toEqual(expect.arrayContaining(env.map(({ name }) => name)));
  });

  test('the image of the graph is that of this version', () => {
    expect(graphOf('RayService').spec.schema.spec.fetchImage).toContain(`"localhost/modelferry:${version}"`);
  });
});

test('the network policy lets pods out to the hops of an import and to nothing else, and nobody in', () => {
  const { spec } = parse(read('workflows/examples/network-policy.yaml')) as { spec: Policy };
  expect([spec.policyTypes, spec.ingress]).toEqual([['Ingress', 'Egress'], []]);
  expect(spec.egress.map(({ ports }) => ports.map(({ port }) => port))).toEqual([[53, 53], [443], [9000], [8080], [443, 6443]]);
  for (const { to } of spec.egress) expect(to.length).toBeGreaterThan(0);
  const [v4, v6] = (spec.egress[1]?.to ?? []).map(({ ipBlock }) => ipBlock?.except);
  // The metadata service of clouds and the cluster itself are no Hub.
  expect(v4).toEqual(expect.arrayContaining(['10.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.168.0.0/16']));
  expect(v6).toEqual(expect.arrayContaining(['fc00::/7', 'fe80::/10']));
});

interface Policy {
  policyTypes: string[];
  ingress: unknown[];
  egress: { to: { ipBlock?: { except?: string[] } }[]; ports: { port: number }[] }[];
}

describe('Backstage', () => {
  interface Template {
    spec: {
      parameters: { required: string[]; properties: Record<string, { pattern?: string; default?: string | boolean }> }[];
      steps: { action: string; input: { values?: object } }[];
    };
  }
  const template = parse(read('workflows/backstage/template.yaml')) as Template;
  const skeleton = read('workflows/backstage/skeleton/model.yaml');
  const asked = Object.assign({}, ...template.spec.parameters.map(({ properties }) => properties)) as Record<
    string,
    { pattern?: string; default?: string | boolean }
  >;

  test('what is asked for is what the skeleton takes, and what the graph has', () => {
    const given = Object.keys(template.spec.steps[0]?.input.values ?? {}).sort();
    const used = [...new Set([...skeleton.matchAll(/values\.(\w+)/g)].map(([, name]) => name))].sort();
    expect(given).toEqual(used);
    expect([...given, 'repoUrl'].sort()).toEqual(Object.keys(asked).sort());
    expect(specOf('HuggingFaceModel')).toEqual(expect.arrayContaining(used.filter((name) => name !== 'name')));
    for (const { required, properties } of template.spec.parameters)
      expect(Object.keys(properties)).toEqual(expect.arrayContaining(required));
  });

  test('what is rendered is YAML, whatever a text looks like', () => {
    const values: Record<string, string> = { name: 'tiny', revision: '1.0', modelId: 'acme/it "s: #1' };
    const text = skeleton.replace(/\$\{\{ values\.(\w+)( \| dump)? \}\}/g, (_, name: string, dump?: string) => {
      const value = values[name] ?? asked[name]?.default ?? 'x';
      return dump ? JSON.stringify(value) : String(value);
    });
    expect(parse(text)).toMatchObject({
      metadata: { name: 'tiny' },
      spec: { revision: '1.0', modelId: 'acme/it "s: #1', clusterName: '', createIdentity: false },
    });
  });
});

const python = spawnSync('python3', ['--version']).status === 0;
describe.skipIf(!python)('Ray', () => {
  test('the example app reads the folder that fetch leaves, and says what is missing', () => {
    const dir = mkdtempSync(join(tmpdir(), 'ray-'));
    const look = (arguments_: string) =>
      spawnSync('python3', ['-B', '-c', `import app; print(app.model_folder(${arguments_}))`], {
        cwd: join(root, 'workflows/ray'),
        env: { PATH: process.env.PATH, MODEL_DIR: dir },
        encoding: 'utf8',
      });
    try {
      expect(look('{}').stderr).toContain('lacks config.json, model.safetensors');
      mkdirSync(join(dir, 'weights'));
      writeFileSync(join(dir, 'config.json'), '{}');
      writeFileSync(
        join(dir, 'model.safetensors.index.json'),
        JSON.stringify({ weight_map: { a: 'one.safetensors', b: 'two.safetensors' } }),
      );
      writeFileSync(join(dir, 'one.safetensors'), '');
      expect(look('{}').stderr).toContain('lacks two.safetensors');
      writeFileSync(join(dir, 'two.safetensors'), '');
      expect(look('{}').stdout.trim()).toBe(dir);
      expect(look(`{"model_dir": "${join(dir, 'weights')}"}`).status).toBe(1);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

describe('Grafana', () => {
  interface Panel {
    id: number;
    title: string;
    gridPos: { x: number; y: number; w: number; h: number };
    targets: { expr: string }[];
  }
  const dashboard = JSON.parse(read('workflows/grafana/fetch-dashboard.json')) as {
    panels: Panel[];
    templating: { list: { name: string; query: string }[] };
  };
  const { panels, templating } = dashboard;
  const text = JSON.stringify([panels.map(({ targets }) => targets), templating]);

  test('every panel has a place and a question of its own', () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, at) => `${x + (at % w)},${y + Math.floor(at / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    for (const { title, targets } of panels) {
      for (const { expr } of targets) {
        expect(expr, title).toMatch(/modelferry_\w+\{model=~"\$model"/);
        for (const [open, close] of ['()', '{}', '[]']) expect(expr.split(open ?? '').length, expr).toBe(expr.split(close ?? '').length);
      }
    }
  });

  test('variables that are used are declared', () => {
    const builtIn = ['__range', '__interval', '__all'];
    const used = new Set([...text.matchAll(/\$\{?(\w+)/g)].map(([, name = '']) => name).filter((name) => !builtIn.includes(name)));
    expect([...used].sort()).toEqual(templating.list.map(({ name }) => name).sort());
  });

  const metrics = 'lib/metrics.ts';
  test.skipIf(!existsSync(join(root, metrics)))('it asks for metrics that fetch tells, and for all of them', () => {
    const asked = new Set([...text.matchAll(/modelferry_\w+/g)].map(([name]) => name));
    const told = new Set([...read(metrics).matchAll(/^ {2}(modelferry_\w+):/gm)].map(([, name]) => name));
    expect([...asked].sort()).toEqual([...told].sort());
  });
});
