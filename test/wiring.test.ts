import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { renderArgo } from '../lib/render/argo.ts';
import { fillMarkers, renderTables } from '../lib/render/tables.ts';
import { renderTekton } from '../lib/render/tekton.ts';
import { commands, wired } from '../tasks/index.ts';

const root = join(import.meta.dirname, '..');
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const { version } = JSON.parse(read('package.json')) as { version: string };

interface Named {
  name: string;
}
interface Given extends Named {
  value?: unknown;
}
interface Declared extends Given {
  default?: unknown;
  description?: string;
}
interface ArgoCall extends Named {
  template?: string;
  templateRef?: { name: string; template: string };
  arguments?: { parameters?: Given[] };
  depends?: string;
}
interface ArgoTemplate extends Named {
  inputs?: { parameters?: Declared[] };
  outputs?: { parameters?: (Named & { valueFrom?: { parameter?: string } })[]; artifacts?: (Named & { path: string })[] };
  dag?: { tasks: ArgoCall[] };
  volumes?: { name: string }[];
  steps?: ArgoCall[][];
}
interface Containing {
  container: { env: Given[] };
}
interface TektonTask extends Named {
  taskRef: { name: string };
  runAfter?: string[];
  params?: Given[];
  matrix?: { params: Given[] };
  workspaces?: (Named & { workspace: string })[];
  when?: { input: string }[];
}
interface TektonSpec {
  params?: Declared[];
  results?: (Given & { type?: string })[];
  workspaces?: (Named & { optional?: boolean })[];
  tasks?: TektonTask[];
  finally?: TektonTask[];
}
interface Item {
  file: string;
  apiVersion: string;
  kind: string;
  metadata: { name?: string };
  // The shape depends on the kind; the engines' schemas have checked it before.
  spec: Record<string, unknown>;
}

const files = ['workflows', 'tekton'].flatMap((dir) =>
  readdirSync(join(root, dir), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => join(dir, name))
    .sort(),
);
const items: Item[] = files.flatMap((file) =>
  parseAllDocuments(read(file)).map((document) => ({ file, ...(document.toJS() as Omit<Item, 'file'>) })),
);
const ofKind = (...kinds: string[]) => items.filter(({ kind }) => kinds.includes(kind));

function schemas(file: string): Record<string, (value: unknown) => string[]> {
  const { $defs, kinds } = JSON.parse(gunzipSync(readFileSync(join(root, 'test/schemas', file))).toString()) as {
    $defs: object;
    kinds: Record<string, object>;
  };
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  return Object.fromEntries(
    Object.entries(kinds).map(([kind, schema]) => {
      const check = ajv.compile({ ...schema, $defs });
      return [
        kind,
        (value: unknown) =>
          check(value) ? [] : (check.errors ?? []).map((each) => `${each.instancePath}: ${each.message} ${JSON.stringify(each.params)}`),
      ];
    }),
  );
}

describe('generated files', () => {
  test('workflows/steps.yaml is what the declarations say', async () => {
    await expect(renderArgo(wired, version)).toMatchFileSnapshot('../workflows/steps.yaml');
  });

  test('tekton/tasks.yaml is what the declarations say', async () => {
    await expect(renderTekton(wired, version)).toMatchFileSnapshot('../tekton/tasks.yaml');
  });

  test('the tables of README.md are what the declarations say', async () => {
    await expect(fillMarkers(read('README.md'), renderTables(commands))).toMatchFileSnapshot('../README.md');
  });

  test('README.md points to headings and files that are there', () => {
    const text = read('README.md');
    const all = (pattern: RegExp) => [...text.matchAll(pattern)].map(([, found = '']) => found);
    const anchors = all(/^#+ (.+)$/gm).map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\w -]/g, '')
        .replaceAll(' ', '-'),
    );
    expect(all(/\]\(#([^)]+)\)/g).filter((link) => !anchors.includes(link))).toEqual([]);
    expect(all(/`((?:workflows|tekton|test|lib|tasks)\/[\w./-]+)`/g).filter((path) => !existsSync(join(root, path)))).toEqual([]);
    expect(text.split('<details>')).toHaveLength(text.split('</details>').length);
  });

  test('a marker without a block, and a block without a marker, are faults', () => {
    const text = '<!-- generated:one -->\nold\n<!-- /generated:one -->\n';
    expect(fillMarkers(text, { one: 'new\n' })).toBe('<!-- generated:one -->\n\nnew\n\n<!-- /generated:one -->\n');
    expect(() => fillMarkers(text, {})).toThrow('marker one');
    expect(() => fillMarkers(text, { one: '', two: '' })).toThrow('two');
  });
});

describe('the engines take it', () => {
  const checks = { ...schemas('argo-workflows-3.7.14.json.gz'), ...schemas('tekton-pipelines-1.9.0.json.gz') };
  const theirs = items.filter(({ apiVersion }) => /^(argoproj\.io|tekton\.dev)\//.test(apiVersion));

  test.each(theirs.map((item) => [item.file, item] as const))('%s holds the schema of its kind', (_, { file: __, ...item }) => {
    const check = checks[`${item.apiVersion} ${item.kind}`];
    expect(check, `${item.apiVersion} ${item.kind}`).toBeDefined();
    expect(check?.(item)).toEqual([]);
  });

  test('the schemas know a wrong name from a right one', () => {
    const [workflow] = theirs.filter(({ kind }) => kind === 'WorkflowTemplate');
    const { file: _, ...item } = structuredClone(workflow) as Item;
    const template = (item.spec.templates as Record<string, unknown>[])[0] as Record<string, unknown>;
    template.retryStrategi = {};
    expect(checks['argoproj.io/v1alpha1 WorkflowTemplate']?.(item).join()).toContain('retryStrategi');
  });
});

describe('every container', () => {
  const containers = [
    ...ofKind('WorkflowTemplate').flatMap(({ file, spec }) =>
      ((spec.templates as { name: string; container?: object }[]) ?? []).flatMap(({ name, container }) =>
        container ? [{ at: `${file} ${name}`, container }] : [],
      ),
    ),
    ...ofKind('Task').flatMap(({ file, metadata, spec }) =>
      (spec.steps as { computeResources?: object }[]).map(({ computeResources, ...step }) => ({
        at: `${file} ${metadata.name}`,
        container: { ...step, resources: computeResources },
      })),
    ),
    ...ofKind('Job').flatMap(({ file, spec }) =>
      (spec.template as { spec: { containers: object[] } }).spec.containers.map((container) => ({ at: file, container })),
    ),
  ] as {
    at: string;
    container: Record<string, unknown> & { env: { name: string; valueFrom?: { secretKeyRef?: { optional?: boolean } } }[] };
  }[];

  test('there are some of each engine', () => {
    expect(containers.length).toBe(2 * wired.length + 2);
  });

  test.each(containers.map((each) => [each.at, each.container] as const))(
    '%s is locked down, and runs a program of ours',
    (_, container) => {
      expect(container).toMatchObject({
        image: `localhost/modelferry:${version}`,
        command: [
          '/nodejs/bin/node',
          expect.stringMatching(new RegExp(`^/app/(modelferry|${wired.map(({ name }) => name).join('|')})\\.cjs$`)),
        ],
        securityContext: {
          runAsNonRoot: true,
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
          seccompProfile: { type: 'RuntimeDefault' },
        },
        resources: { requests: { cpu: expect.any(String), memory: expect.any(String) }, limits: { memory: expect.any(String) } },
      });
      expect(container.securityContext).not.toHaveProperty('runAsUser');
      expect(container).not.toHaveProperty('script');
      expect(JSON.stringify([container.command, container.args ?? []])).not.toMatch(/\$\(|\{\{/);
      for (const { name, valueFrom } of container.env) {
        if (/TOKEN|SECRET|ACCESS_KEY/.test(name)) expect(valueFrom?.secretKeyRef, name).toMatchObject({ optional: true });
      }
    },
  );

  test('no step declares a secret as a parameter', () => {
    const secrets = wired.flatMap(({ params }) => Object.values(params.properties).filter((param) => param['x-secret']));
    expect(secrets.length).toBeGreaterThan(0);
    for (const { name } of leafParams())
      expect(name).not.toMatch(/^(hub-token|aws-.*|s3-access-key-id|s3-secret-access-key|model-registry-token)$/);
  });

  function leafParams(): Named[] {
    const templates = ofKind('WorkflowTemplate').flatMap(({ spec }) => spec.templates as ArgoTemplate[]);
    return [
      ...templates.flatMap(({ inputs }) => inputs?.parameters ?? []),
      ...ofKind('Task').flatMap(({ spec }) => spec.params as Named[]),
    ];
  }
});

const policy = ['allow-licenses', 'allow-unsafe', 'deny-licenses', 'require-license'];
/** Which step is given what of policy, lint, copies and limits. A shard has the first two from its plan's record. */
const bounds: Record<string, Record<string, string[]>> = {
  'import-model': { download: [...policy, 'bandwidth-limit'].sort(), upload: [...policy, 'bandwidth-limit', 'copy-from', 'lint'].sort() },
  'sync-model': { plan: [...policy, 'copy-from', 'lint'].sort(), sync: ['bandwidth-limit'] },
};

/** The same of a pipeline as it is: only what is passed on as the user gave it. */
function bounded(
  calls: readonly { step: string; params: readonly Given[] }[],
  asGiven: (name: string) => string,
): Record<string, string[]> {
  const names = [...policy, 'bandwidth-limit', 'copy-from', 'lint'];
  const given = calls.map(
    ({ step, params }) =>
      [
        step,
        params
          .filter(({ name, value }) => names.includes(name) && value === asGiven(name))
          .map(({ name }) => name)
          .sort(),
      ] as const,
  );
  return Object.fromEntries(given.filter(([, each]) => each.length > 0));
}

describe('Argo: names that cross', () => {
  const templates = new Map(
    ofKind('WorkflowTemplate').map(({ metadata, spec }) => [
      metadata.name ?? '',
      new Map((spec.templates as ArgoTemplate[]).map((each) => [each.name, each])),
    ]),
  );
  const parametersOf = ({ spec }: Item) => ((spec.arguments as { parameters?: Given[] })?.parameters ?? []).map(({ name }) => name);

  test.each(ofKind('WorkflowTemplate').map((item) => [item.file, item] as const))(
    '%s: calls, parameters and results are declared',
    (_, item) => {
      const faults: string[] = [];
      const declared = parametersOf(item);
      for (const [, used = ''] of JSON.stringify(item.spec).matchAll(/workflow\.parameters(?:\.|\[')([\w-]+)/g)) {
        if (!declared.includes(used)) faults.push(`workflow parameter ${used} is not declared`);
      }
      for (const template of templates.get(item.metadata.name ?? '')?.values() ?? []) {
        const inputs = (template.inputs?.parameters ?? []).map(({ name }) => name);
        for (const [, used = ''] of JSON.stringify(template).matchAll(/inputs\.parameters(?:\.|\[')([\w-]+)/g)) {
          if (!inputs.includes(used)) faults.push(`${template.name}: input ${used} is not declared`);
        }
        const calls = [...(template.dag?.tasks ?? []), ...(template.steps ?? []).flat()];
        const targetOf = (call: ArgoCall) =>
          call.templateRef
            ? templates.get(call.templateRef.name)?.get(call.templateRef.template)
            : templates.get(item.metadata.name ?? '')?.get(call.template ?? '');
        for (const call of calls) {
          const target = targetOf(call);
          if (target === undefined) {
            faults.push(`${template.name}.${call.name}: no such template`);
            continue;
          }
          const given = (call.arguments?.parameters ?? []).map(({ name }) => name);
          const wanted = target.inputs?.parameters ?? [];
          for (const name of given)
            if (!wanted.some((each) => each.name === name)) faults.push(`${call.name}: ${target.name} takes no ${name}`);
          for (const name of given)
            if (given.filter((each) => each === name).length > 1) faults.push(`${call.name}: ${name} is given twice`);
          for (const { name, value } of wanted)
            if (value === undefined && !given.includes(name)) faults.push(`${call.name}: ${target.name} needs ${name}`);
        }
        const references = JSON.stringify([calls, template.outputs ?? {}]).matchAll(
          /(?:tasks|steps)\.([\w-]+)\.outputs\.parameters\.([\w-]+)/g,
        );
        for (const [, name = '', result = ''] of references) {
          const call = calls.find((each) => each.name === name);
          const outputs = call && targetOf(call)?.outputs?.parameters?.map((each) => each.name);
          if (!outputs?.includes(result)) faults.push(`${template.name}: ${name} gives no ${result}`);
        }
        for (const call of template.dag?.tasks ?? []) {
          for (const [, name = ''] of JSON.stringify(call).matchAll(/tasks\.([\w-]+)\.outputs/g)) {
            if (!ancestors(template.dag?.tasks ?? [], call.name).has(name))
              faults.push(`${call.name} reads ${name}, which may not have run`);
          }
        }
      }
      expect(faults).toEqual([]);
    },
  );

  test.each(['import-model', 'sync-model'])('defaults and descriptions of %s are those of the steps', (workflow) => {
    const [item] = ofKind('WorkflowTemplate').filter(({ metadata }) => metadata.name === workflow);
    const leaves = [...(templates.get('modelferry-steps')?.values() ?? [])].flatMap(({ inputs }) => inputs?.parameters ?? []);
    const own = ((item as Item).spec.arguments as { parameters: Declared[] }).parameters.filter(
      ({ name }) => !name.startsWith('workspace-'),
    );
    expect(own.length).toBeGreaterThan(20);
    for (const param of own) expect(leaves).toContainEqual(param);
  });

  test.each(['import-model', 'sync-model'])('policy, copies and limits of %s reach the steps that keep to them', (workflow) => {
    const own = [...(templates.get(workflow)?.values() ?? [])].flatMap(({ dag, steps }) => [
      ...(dag?.tasks ?? []),
      ...(steps ?? []).flat(),
    ]);
    const calls = own.map((call) => ({ step: call.templateRef?.template ?? '', params: call.arguments?.parameters ?? [] }));
    expect(bounded(calls, (name) => `{{workflow.parameters.${name}}}`)).toEqual(bounds[workflow]);
  });

  test('compress with a report is the step, and a report', () => {
    const step = structuredClone(templates.get('modelferry-steps')?.get('compress')) as ArgoTemplate & Containing;
    const reporting = templates.get('modelferry-compress-report')?.get('compress') as ArgoTemplate & Containing;
    const { artifacts = [] } = reporting.outputs ?? {};
    expect(artifacts.map(({ path }) => path)).toEqual(['/tmp/report/report.html', '/tmp/report/report.json']);
    step.outputs = { artifacts, ...step.outputs };
    step.container.env.splice(2, 0, { name: 'REPORT_DIR', value: '/tmp/report' });
    expect(reporting).toEqual(step);
  });

  test('the component of the report patches the call of compress', () => {
    const { patches } = parse(read('workflows/compress-report/kustomization.yaml')) as { patches: { patch: string }[] };
    const operations = parse(patches[0]?.patch ?? '') as { op: string; path: string; value: string }[];
    const [item] = ofKind('WorkflowTemplate').filter(({ metadata }) => metadata.name === 'import-model');
    const at = (path: string) =>
      path
        .split('/')
        .slice(1)
        .reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], item);
    expect(operations.map(({ path }) => at(path))).toEqual(['compress', 'modelferry-steps']);
    expect(templates.has(operations[1]?.value ?? '')).toBe(true);
  });

  test('the steps of sync-model have no volume but the empty one for results and the certificates', () => {
    for (const name of ['plan', 'sync', 'finish']) {
      const volumes = templates.get('modelferry-steps')?.get(name)?.volumes;
      expect(volumes?.map((volume) => volume.name)).toEqual(['tmp', 'ca']);
    }
    const own = JSON.stringify([...(templates.get('sync-model')?.values() ?? [])]);
    expect(own).not.toMatch(/persistentVolumeClaim|workspace/i);
    expect(own).toContain('"withParam":"{{steps.plan.outputs.parameters.shards}}"');
  });

  test('what the examples give is declared', () => {
    const declared = new Map(ofKind('WorkflowTemplate').map((item) => [item.metadata.name ?? '', parametersOf(item)]));
    const workflows = ofKind('Workflow');
    expect(workflows.length).toBeGreaterThan(0);
    for (const item of workflows) {
      const names = declared.get((item.spec.workflowTemplateRef as Named).name);
      expect(names).toEqual(expect.arrayContaining(parametersOf(item)));
    }
    const many = ofKind('WorkflowTemplate').find(({ metadata }) => metadata.name === 'import-many');
    const lists = ((many as Item).spec.arguments as { parameters: Given[] }).parameters.flatMap(
      ({ value }) => JSON.parse(String(value)) as object | object[],
    );
    expect(lists.length).toBeGreaterThan(1);
    for (const entry of lists) expect(declared.get('import-model')).toEqual(expect.arrayContaining(Object.keys(entry)));
  });

  function ancestors(tasks: ArgoCall[], name: string): Set<string> {
    const depends = tasks.find((each) => each.name === name)?.depends;
    const direct = depends?.match(/[\w-]+/g) ?? [];
    return new Set(direct.flatMap((each) => [each, ...ancestors(tasks, each)]));
  }
});

describe('Tekton: names that cross', () => {
  const tasks = new Map(ofKind('Task').map(({ metadata, spec }) => [metadata.name ?? '', spec as unknown as TektonSpec]));
  const pipelines: (readonly [string, TektonSpec])[] = [
    ...ofKind('Pipeline').map(({ file, spec }) => [file, spec as unknown as TektonSpec] as const),
    ...ofKind('PipelineRun').flatMap(({ file, spec }) => (spec.pipelineSpec ? [[file, spec.pipelineSpec as TektonSpec] as const] : [])),
  ];

  test.each([...tasks])('Task %s uses what it declares, and all of it', (_, spec) => {
    const text = JSON.stringify({ ...spec, params: undefined, workspaces: undefined });
    const used = (pattern: RegExp) => new Set([...text.matchAll(pattern)].map(([, name]) => name));
    expect([...used(/\$\(params\.([\w-]+)\)/g)].sort()).toEqual(spec.params?.map(({ name }) => name).sort());
    expect([...used(/\$\(workspaces\.([\w-]+)\.path\)/g)].sort()).toEqual(spec.workspaces?.map(({ name }) => name).sort());
  });

  test('names differ when case is ignored', () => {
    for (const spec of tasks.values()) {
      for (const list of [spec.params, spec.results]) {
        const names = (list ?? []).map(({ name }) => name.toLowerCase());
        expect(new Set(names).size).toBe(names.length);
      }
    }
  });

  test.each(pipelines)('%s: tasks, parameters, results and workspaces are declared', (_, spec) => {
    const faults: string[] = [];
    const all = [...(spec.tasks ?? []), ...(spec.finally ?? [])];
    const declared = spec.params?.map(({ name }) => name) ?? [];
    const text = JSON.stringify([all, spec.results]);
    for (const [, used = ''] of text.matchAll(/\$\(params\.([\w-]+)/g))
      if (!declared.includes(used)) faults.push(`parameter ${used} is not declared`);
    for (const name of declared) if (!text.includes(`$(params.${name}`)) faults.push(`parameter ${name} is not used`);
    for (const call of all) {
      const task = tasks.get(call.taskRef.name);
      if (task === undefined) {
        faults.push(`${call.name}: no Task ${call.taskRef.name}`);
        continue;
      }
      const given = [...(call.params ?? []), ...(call.matrix?.params ?? [])].map(({ name }) => name);
      for (const name of given)
        if (!task.params?.some((each) => each.name === name)) faults.push(`${call.name}: ${call.taskRef.name} takes no ${name}`);
      for (const { name, default: value } of task.params ?? [])
        if (value === undefined && !given.includes(name)) faults.push(`${call.name} needs ${name}`);
      const bound = call.workspaces ?? [];
      for (const { name, workspace } of bound) {
        if (!task.workspaces?.some((each) => each.name === name))
          faults.push(`${call.name}: ${call.taskRef.name} has no workspace ${name}`);
        if (!spec.workspaces?.some((each) => each.name === workspace)) faults.push(`${call.name}: workspace ${workspace} is not declared`);
      }
      for (const { name, optional } of task.workspaces ?? [])
        if (!optional && !bound.some((each) => each.name === name)) faults.push(`${call.name} needs workspace ${name}`);
      const { value: taskName } = call.params?.find(({ name }) => name === 'task-name') ?? {};
      if (taskName !== undefined && taskName !== call.name) faults.push(`${call.name} calls itself ${taskName}`);
    }
    for (const [, name = '', result = '', whole] of text.matchAll(/\$\(tasks\.([\w-]+)\.results\.([\w-]+)(\[\*\])?\)/g)) {
      const call = spec.tasks?.find((each) => each.name === name);
      const found = call && tasks.get(call.taskRef.name)?.results?.find((each) => each.name === result);
      if (!found) faults.push(`${name} gives no ${result}`);
      else if (found.type !== (whole ? 'array' : 'string')) faults.push(`${name} gives ${result} as ${found.type}`);
    }
    expect(faults).toEqual([]);
  });

  test.each(['import-model', 'sync-model'])('defaults and descriptions of %s are those of the Tasks', (name) => {
    const pipeline = ofKind('Pipeline').find(({ metadata }) => metadata.name === name)?.spec as unknown as TektonSpec;
    const leaves = [...tasks.values()].flatMap(({ params }) => params ?? []);
    expect(pipeline.params?.length).toBeGreaterThan(20);
    for (const param of pipeline.params ?? []) expect(leaves).toContainEqual({ type: 'string', ...param });
  });

  test.each(['import-model', 'sync-model'])('policy, copies and limits of %s reach the Tasks that keep to them', (name) => {
    const pipeline = ofKind('Pipeline').find(({ metadata }) => metadata.name === name)?.spec as unknown as TektonSpec;
    const calls = (pipeline.tasks ?? []).map(({ taskRef, params }) => ({ step: taskRef.name, params: params ?? [] }));
    expect(bounded(calls, (param) => `$(params.${param})`)).toEqual(bounds[name]);
  });

  test.each(ofKind('PipelineRun').map((item) => [item.file, item.spec] as const))(
    '%s gives what its pipeline declares, and all that it needs',
    (_, spec) => {
      const name = (spec.pipelineRef as Named | undefined)?.name;
      const pipeline = (spec.pipelineSpec ?? ofKind('Pipeline').find(({ metadata }) => metadata.name === name)?.spec) as TektonSpec;
      const { params = [], workspaces = [] } = spec as { params?: Given[]; workspaces?: Named[] };
      const names = (list: readonly Named[] = []) => list.map((each) => each.name);
      expect(names(pipeline.params)).toEqual(expect.arrayContaining(names(params)));
      expect(names(params)).toEqual(expect.arrayContaining(names(pipeline.params?.filter((each) => each.default === undefined))));
      expect(names(pipeline.workspaces)).toEqual(expect.arrayContaining(names(workspaces)));
      expect(names(workspaces)).toEqual(expect.arrayContaining(names(pipeline.workspaces?.filter((each) => !each.optional))));
    },
  );

  test('modelcar-pipeline has the names that ModelCar users have', () => {
    const item = ofKind('Pipeline').find(({ metadata }) => metadata.name === 'modelcar-pipeline');
    const spec = item?.spec as unknown as TektonSpec;
    expect(spec.params?.map(({ name }) => name)).toEqual([
      'HUGGINGFACE_MODEL',
      'MODEL_NAME',
      'MODEL_VERSION',
      'MODEL_REGISTRY_URL',
      'S3_BUCKET',
      'S3_ENDPOINT_URL',
      'HUGGINGFACE_ALLOW_PATTERNS',
      'COMPRESS_MODEL',
      'SKIP_TASKS',
    ]);
    expect(spec.params?.find(({ name }) => name === 'HUGGINGFACE_ALLOW_PATTERNS')?.default).toBe('*.safetensors *.json *.txt');
    expect(spec.tasks?.map(({ name }) => name)).toEqual([
      'pull-model-from-huggingface',
      'compress-model',
      'upload-model-to-s3',
      'register-with-registry',
    ]);
    expect(spec.workspaces?.map(({ name }) => name)).toEqual(['shared-workspace', 's3-credentials']);
    const download = tasks.get('download')?.params;
    expect(download).toContainEqual(expect.objectContaining({ name: 'hub-token-secret', default: 'huggingface-secret' }));
    expect(download).toContainEqual(expect.objectContaining({ name: 'hub-token-key', default: 'HUGGINGFACE_TOKEN' }));
  });
});

describe('kustomizations', () => {
  test.each(['workflows', 'tekton'])('%s installs every file beside it', (dir) => {
    const { resources, configurations } = parse(read(`${dir}/kustomization.yaml`)) as {
      resources: string[];
      configurations: string[];
    };
    const beside = readdirSync(join(root, dir)).filter((name) => name.endsWith('.yaml') && name !== 'kustomization.yaml');
    expect([...resources, ...configurations].sort()).toEqual(beside.sort());
    for (const name of resources) expect(existsSync(join(root, dir, name))).toBe(true);
  });
});
