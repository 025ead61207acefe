import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { npmPackages } from './programs.ts';

const folder = join(import.meta.dirname, '../../workflows/backstage');

interface Template {
  spec: { parameters: { properties: Record<string, { default?: unknown }> }[]; steps: { input: { values?: Record<string, string> } }[] };
}

describe('Backstage', () => {
  let require: NodeJS.Require;
  beforeAll(async () => {
    require = await npmPackages('backstage-2.4.0', ['@backstage/plugin-scaffolder-common@2.4.0', 'nunjucks@3.2.4']);
  });

  test('takes the template', async () => {
    const { templateEntityV1beta3Validator } = require('@backstage/plugin-scaffolder-common') as {
      templateEntityV1beta3Validator: { check: (entity: unknown) => Promise<boolean> };
    };
    expect(await templateEntityV1beta3Validator.check(parse(await readFile(join(folder, 'template.yaml'), 'utf8')))).toBe(true);
  });

  test('renders the skeleton as it was meant, whatever a text looks like', async () => {
    const { Environment } = require('nunjucks') as {
      Environment: new (loader: null, options: object) => { renderString: (text: string, context: object) => string };
    };
    // As the action fetch:template does it.
    const environment = new Environment(null, { autoescape: false, tags: { variableStart: '${{', variableEnd: '}}' } });
    const { spec } = parse(await readFile(join(folder, 'template.yaml'), 'utf8')) as Template;
    const asked = Object.assign({}, ...spec.parameters.map(({ properties }) => properties)) as Record<string, { default?: unknown }>;
    const given: Record<string, unknown> = { name: 'tiny', revision: '1.0', accountId: '012345678901', modelId: 'acme/it "s: #1' };
    const values = Object.fromEntries(
      Object.keys(spec.steps[0]?.input.values ?? {}).map((name) => [name, given[name] ?? asked[name]?.default ?? 'x']),
    );
    const { name, ...rest } = values;
    const text = environment.renderString(await readFile(join(folder, 'skeleton/model.yaml'), 'utf8'), { values });
    expect(parse(text)).toEqual({ apiVersion: 'kro.run/v1alpha1', kind: 'HuggingFaceModel', metadata: { name }, spec: rest });
  });
});
