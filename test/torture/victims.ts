import { mkdir } from 'node:fs/promises';
import { bytesOf } from '../fakes/content.ts';
import { type Ended, Program } from '../fakes/program.ts';
import { fillWorkspace } from '../fakes/workspace.ts';
import { type Arena, type RepoId, repos } from './arena.ts';
import { planned } from './fan-out.ts';
import { heldModels } from './folders.ts';

/** One run of a program, as often as it is killed. */
export interface Call {
  program: string;
  env: Record<string, string>;
  /** The workspace that it uses, if any: looked over at every moment and at the end. */
  workspace?: string;
  repo: RepoId;
  /** Talks to nobody: only the clock, its log and its disk tell when to hit it. */
  offline?: boolean;
  /** What runs when it has ended and nobody hit it: the next pods of a pipeline. */
  next?: (ended: Ended) => Promise<Call[]>;
}

export interface Victim {
  name: string;
  publishes: boolean;
  registers: boolean;
  /** Talks to nobody. */
  offline: boolean;
  /** Its workspace is a folder with the files of one model right in it. */
  named: boolean;
  /** Exit codes of a run that others were in the way of. */
  gives: readonly number[];
  /** A rerun takes only what is missing from the Hub; false: it takes nothing, or reads again what it hashes. */
  resumesFromHub: boolean;
  /** Bytes of each of a model's two shards: one of these. */
  shardBytes: readonly number[];
  /** Makes what must be there before, and gives the call of one writer. `shared`: all writers use one workspace, or one plan. */
  call(arena: Arena, repo: RepoId, writer: number, shared: boolean): Promise<Call>;
}

const shardBytes = [400_000, 3_000_000, 7_000_000, 11_000_000];
const needs = { publishes: true, registers: false, offline: false, named: false, gives: [], resumesFromHub: false, shardBytes };
/** So that what is left of them goes in one part, and in more. */
const halved = { ...needs, shardBytes: shardBytes.map((bytes) => bytes * 2) };
/** What is made smaller on its way into the store. */
const onTheWay = 'fp8-dynamic';

/** Whoever writes a new step that may be killed adds it here. */
export const victims: readonly Victim[] = [
  {
    ...needs,
    name: 'download',
    publishes: false,
    resumesFromHub: true,
    call: async (arena, repo, writer, shared) => {
      const workspace = shared ? 'all' : String(writer);
      return { program: 'download', repo, workspace, env: { MODEL_ID: repo, WORKSPACE: arena.workspace(workspace) } };
    },
  },
  compressing('compress', 'fp8-dynamic'),
  compressing('archive', 'archive'),
  {
    ...halved,
    name: 'fuse-upload',
    call: async (arena, repo, writer, shared) => {
      await makeReference(arena, repo, onTheWay);
      const workspace = shared ? `all-${repo.slice(-3)}` : String(writer);
      await fill(arena, workspace, repo);
      const env = { METHOD: onTheWay, FUSE_UPLOAD: 'true', WORKSPACE: arena.workspace(workspace) };
      return { program: 'compress', repo, workspace, env };
    },
  },
  {
    ...needs,
    name: 'upload',
    call: async (arena, repo, writer, shared) => {
      const workspace = shared ? `all-${repo.slice(-3)}` : String(writer);
      await fill(arena, workspace, repo);
      return { program: 'upload', repo, workspace, env: { WORKSPACE: arena.workspace(workspace) } };
    },
  },
  {
    ...needs,
    name: 'sync',
    call: async (_, repo, writer) => ({ program: 'sync', repo, env: { MODEL_ID: repo, RUN_ID: `run-${writer}` } }),
  },
  {
    ...halved,
    name: 'sync-fp8',
    call: async (arena, repo, writer) => {
      const [model] = repos;
      await makeReference(arena, model, onTheWay);
      const env = { MODEL_ID: model, RUN_ID: `run-${writer}` };
      // A rival brings the same model as it is: other bytes of the same names.
      return { program: 'sync', repo, env: repo === model ? { ...env, METHOD: onTheWay } : env };
    },
  },
  {
    ...needs,
    name: 'fan-out',
    // A plan is held while its pods wait, and a later try of a shard ends an earlier one.
    gives: [5],
    call: async (_, repo, writer, shared) => planned(repo, shared ? 0 : writer, writer % 2 === 1 && !shared),
  },
  {
    ...needs,
    name: 'fetch',
    resumesFromHub: true,
    call: async (arena, repo, writer, shared) => {
      const workspace = shared ? 'all' : String(writer);
      const env = { MODEL_ID: repo, WORKSPACE: arena.workspace(workspace), FILL: 'true' };
      return { program: 'fetch', repo, workspace, env };
    },
  },
  {
    ...needs,
    name: 'fetch-dir',
    named: true,
    resumesFromHub: true,
    call: async (arena, repo, writer, shared) => {
      const workspace = shared ? `all-${repo.slice(-3)}` : String(writer);
      const env = { MODEL_ID: repo, MODEL_DIR: arena.workspace(workspace), FILL: 'true' };
      return { program: 'fetch', repo, workspace, env };
    },
  },
  {
    ...needs,
    name: 'register',
    registers: true,
    call: async (arena, repo, writer) => {
      if ((await arena.published()) === undefined) await finish(new Program('sync', [], { ...arena.env, MODEL_ID: repo }).ended);
      const workspace = String(writer);
      const env = { WORKSPACE: arena.workspace(workspace), MODEL_URI: arena.uri, MODEL_REGISTRY_URL: arena.registry.origin };
      return { program: 'register-in-model-registry', repo, workspace, env };
    },
  },
  {
    ...needs,
    name: 'import',
    registers: true,
    resumesFromHub: true,
    call: async (arena, repo, writer, shared) => {
      const workspace = shared ? `all-${repo.slice(-3)}` : String(writer);
      const env = { MODEL_ID: repo, WORKSPACE: arena.workspace(workspace), MODEL_REGISTRY_URL: arena.registry.origin };
      return { program: 'import', repo, workspace, env };
    },
  },
];

function compressing(name: string, method: string): Victim {
  return {
    ...needs,
    name,
    publishes: false,
    offline: true,
    call: async (arena, repo, writer, shared) => {
      await makeReference(arena, repo, method);
      const workspace = shared ? 'all' : String(writer);
      await fill(arena, workspace, repo);
      const env = { METHOD: method, WORKSPACE: arena.workspace(workspace) };
      return { program: 'compress', repo, workspace, env, offline: true };
    },
  };
}

/** What a run makes that nobody hits, and that has a workspace and a disk: every other run must make the same. */
async function makeReference(arena: Arena, repo: RepoId, method: string): Promise<void> {
  if (arena.references.has(repo)) return;
  const workspace = `reference-${repo.slice(-3)}`;
  await fill(arena, workspace, repo);
  await finish(new Program('compress', [], { METHOD: method, WORKSPACE: arena.workspace(workspace) }).ended);
  const made = (await heldModels(arena.workspace(workspace))).find(({ manifest }) => manifest.derived);
  if (made) arena.references.set(repo, made);
}

/** A workspace as download leaves it. */
async function fill(arena: Arena, workspace: string, repo: RepoId): Promise<void> {
  const files = [...(arena.models.get(repo) ?? [])].map(([path, content]) => [path, bytesOf(content)] as const);
  await mkdir(arena.workspace(workspace), { recursive: true });
  await fillWorkspace(arena.workspace(workspace), Object.fromEntries(files), { repo, commit: arena.hub.repo(repo).sha() });
}

async function finish(ended: Promise<Ended>): Promise<void> {
  const { exitCode, stderr } = await ended;
  if (exitCode !== 0) throw new Error(`failed to prepare: exit ${exitCode}: ${stderr}`);
}
