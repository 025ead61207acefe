import { resolve } from 'node:path';
import { defineStep } from '../../lib/define-step.ts';
import { messageOf, StepError } from '../../lib/errors.ts';
import { localModels } from '../../lib/local/models.ts';
import { chosenSource, namesStore } from '../../lib/model-uri.ts';
import { identityOf, namesOf } from '../../lib/naming.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema } from '../../lib/params/declare.ts';
import { sourceParams } from '../../lib/params/groups/existing.ts';
import { modelParams, namingParams } from '../../lib/params/groups/model.ts';
import { registryAddressParams } from '../../lib/params/groups/registry.ts';
import { s3Params, storeDirParams } from '../../lib/params/groups/store.ts';
import { networkParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { workspaceParams } from '../../lib/params/groups/workspace.ts';
import { type Listed, listPublished } from '../../lib/publish/catalog.ts';
import { controlKeys, readPublished } from '../../lib/publish/control.ts';
import { placeOf, placesInUse } from '../../lib/registry/in-use.ts';
import { Registry } from '../../lib/registry/registry.ts';
import { mapLimited } from '../../lib/transfer/pool.ts';
import { type Row, showRows } from './show.ts';

export const list = defineStep({
  name: 'list',
  summary: 'Lists the models of the store or of the workspace: a table on a terminal, JSON on a pipe.',
  product: 'text',
  params: schema({
    ...sourceParams,
    modelId: modelParams.modelId,
    modelName: namingParams.modelName,
    workspace: workspaceParams.workspace,
    ...registryAddressParams,
    ...s3Params,
    ...storeDirParams,
    ...transferParams,
    ...networkParams,
  }),
  results: { models: 'Number of models.', 'total-bytes': 'Bytes of all of them.' },
  async run(params, ctx) {
    const { keyTemplate, workspace, modelId, modelName, controlPrefix, concurrency, modelRegistryUrl } = params;
    const source = chosenSource(params.source, ['hub'], namesStore(params));
    const rows: Row[] = [];
    if (source !== 'local') {
      const store = openStore(params, ctx);
      const states =
        modelRegistryUrl === undefined
          ? new Map<string, string>()
          : await placesInUse(
              new Registry({ ...params, ...ctx, url: modelRegistryUrl, token: params.modelRegistryToken, dryRun: undefined }),
            );
      const row = async ({ prefix, publishedAt, words }: Listed): Promise<Row[]> => {
        const published = await readPublished(store, controlKeys(controlPrefix, prefix).manifest).catch((error: unknown) => {
          if (!(error instanceof StepError) || error.kind !== 'integrity') throw error;
          ctx.log.warn({ prefix, error: messageOf(error) }, 'a manifest in the store cannot be read');
          return undefined;
        });
        if (published === undefined) return [];
        const { manifest } = published;
        const names = { ...namesOf(identityOf(manifest), {}), ...words };
        const uri = `${store.uri}/${prefix}/`;
        return [
          { source: 's3', ...rowOf(names, manifest), at: publishedAt.toISOString(), uri, registered: states.get(placeOf(uri)) ?? null },
        ];
      };
      rows.push(...(await mapLimited(await listPublished(store, { controlPrefix, keyTemplate }), concurrency, row)).flat());
    }
    if (source !== 's3') {
      for (const { manifest, files, at } of await localModels(workspace)) {
        const names = namesOf(identityOf(manifest), {});
        rows.push({ source: 'local', ...rowOf(names, manifest), at: at.toISOString(), uri: resolve(files), registered: null });
      }
    }
    const wanted = rows.filter(
      ({ repo, name }) => (modelId === undefined || repo === modelId) && (modelName === undefined || name === modelName),
    );
    ctx.print(showRows(wanted, ctx.terminal));
    return { models: String(wanted.length), 'total-bytes': String(wanted.reduce((sum, { bytes }) => sum + bytes, 0)) };
  },
});

function rowOf(
  { name, version }: { name: string; version: string },
  { source, files, totalBytes, derived }: Parameters<typeof identityOf>[0],
): Pick<Row, 'name' | 'version' | 'repo' | 'commit' | 'method' | 'files' | 'bytes'> {
  return { name, version, ...source, method: derived?.method ?? 'none', files: files.length, bytes: totalBytes };
}
