import { parse } from 'yaml';
import { bytesOf } from '../content.ts';
import type { Commit, FakeRepo, FileEntry, FolderEntry } from './repo.ts';

/** Fields which `expand` knows, as the Hub's own 400 lists them; those that this fake has no value for are left out of answers. */
const expandable = new Set(
  `author baseModels cardData config createdAt disabled downloads downloadsAllTime evalResults gated inference inferenceProviderMapping
  lastModified library_name likes mask_token model-index pipeline_tag private safetensors sha siblings spaces tags transformersInfo
  trendingScore widgetData gguf resourceGroup xetEnabled childrenModelCount usedStorage`.split(/\s+/),
);

/** Names among `expand` which the Hub refuses. */
export function unknownFields(expand: string[]): string[] {
  return expand.filter((name) => !expandable.has(name));
}

/** What GET /api/models/{id} says; with `expand` only `_id`, `id` and the fields named. */
export function modelInfo(repo: FakeRepo, commit: Commit, { expand = [], blobs = false }: { expand?: string[]; blobs?: boolean }): object {
  const card = cardOf(commit);
  const config = configOf(commit);
  const files = [...commit.files.values()];
  const library = card.library_name as string | undefined;
  const all: Record<string, unknown> = {
    author: repo.id.split('/')[0],
    private: repo.private,
    gated: repo.gated,
    disabled: false,
    sha: commit.id,
    lastModified: commit.date,
    createdAt: repo.createdAt,
    downloads: 42,
    downloadsAllTime: 420,
    likes: 7,
    library_name: library,
    pipeline_tag: card.pipeline_tag,
    tags: tagsOf(card, config, files),
    'model-index': null,
    cardData: Object.keys(card).length > 0 ? card : undefined,
    config: config && { architectures: config.architectures, model_type: config.model_type },
    transformersInfo: config && { auto_model: 'AutoModelForCausalLM', pipeline_tag: card.pipeline_tag, processor: 'AutoTokenizer' },
    siblings: files.map((file) => sibling(file, blobs)),
    spaces: [],
    usedStorage: files.reduce((sum, file) => sum + (file.lfs ? file.size : 0), 0),
    xetEnabled: files.some((file) => file.xetHash !== undefined),
    trendingScore: 0,
    childrenModelCount: { adapter: 0, merge: 0, quantized: 0, finetune: 0 },
  };
  if (expand.length > 0) {
    return { _id: repo.objectId, id: repo.id, ...Object.fromEntries(expand.map((name) => [name, all[name]])) };
  }
  const { downloadsAllTime, xetEnabled, trendingScore, childrenModelCount, ...usual } = all;
  return { _id: repo.objectId, id: repo.id, modelId: repo.id, ...usual };
}

/** A row of the tree and paths-info answers. */
export function treeRow(entry: FileEntry | FolderEntry, expand: boolean): object {
  const extra = expand ? { lastCommit: entry.lastCommit } : {};
  if (!('content' in entry)) return { type: 'directory', oid: entry.oid, size: 0, path: entry.path, ...extra };
  const { oid, size, path, lfs, xetHash } = entry;
  const scans = { status: 'safe', avScan: { status: 'safe' }, pickleImportScan: { status: 'unscanned' } };
  return {
    type: 'file',
    oid,
    size,
    ...(lfs && { lfs: { oid: lfs.sha256, size, pointerSize: lfs.pointer.length } }),
    ...(xetHash && { xetHash }),
    path,
    ...extra,
    ...(expand && { securityFileStatus: scans }),
  };
}

/** Entries of a folder ('' is the root), folders first; with `recursive` those below it follow. Undefined when there is no such folder. */
export function listTree(commit: Commit, folder: string, recursive: boolean): (FileEntry | FolderEntry)[] | undefined {
  if (folder !== '' && !commit.folders.has(folder)) return undefined;
  const prefix = folder === '' ? '' : `${folder}/`;
  const wanted = (path: string) => path.startsWith(prefix) && (recursive || !path.slice(prefix.length).includes('/'));
  const byPath = (a: { path: string }, b: { path: string }) => (a.path < b.path ? -1 : 1);
  const folders = [...commit.folders.values()].filter((entry) => wanted(entry.path)).sort(byPath);
  const files = [...commit.files.values()].filter((entry) => wanted(entry.path)).sort(byPath);
  return [...folders, ...files];
}

function sibling(file: FileEntry, blobs: boolean): object {
  if (!blobs) return { rfilename: file.path };
  const lfs = file.lfs && { lfs: { sha256: file.lfs.sha256, size: file.size, pointerSize: file.lfs.pointer.length } };
  return { rfilename: file.path, blobId: file.oid, size: file.size, ...lfs };
}

type Json = Record<string, unknown>;

function cardOf(commit: Commit): Json {
  const readme = commit.files.get('README.md');
  const front = readme && /^---\r?\n([\s\S]*?)\r?\n---/.exec(bytesOf(readme.content).toString());
  return front ? ((parse(front[1]!) as Json | null) ?? {}) : {};
}

function configOf(commit: Commit): Json | undefined {
  const file = commit.files.get('config.json');
  return file && (JSON.parse(bytesOf(file.content).toString()) as Json);
}

function tagsOf(card: Json, config: Json | undefined, files: FileEntry[]): string[] {
  const list = (value: unknown) => (Array.isArray(value) ? value : [value]).filter((one): one is string => typeof one === 'string');
  const tags = [
    ...list(card.library_name),
    ...(files.some((file) => file.path.endsWith('.safetensors')) ? ['safetensors'] : []),
    ...list(config?.model_type),
    ...list(card.pipeline_tag),
    ...list(card.tags),
    ...list(card.language),
    ...list(card.license).map((license) => `license:${license}`),
    'region:us',
  ];
  return [...new Set(tags)];
}
