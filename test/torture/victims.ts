import { mkdir } from 'node:fs/promises';
import { bytesOf } from '../fakes/content.ts';
import { type Ended, Program } from '../fakes/program.ts';
import { fillWorkspace } from '../fakes/workspace.ts';
import type { Arena, RepoId } from './arena.ts';
import { planned } from './fan-out.ts';
import { heldModels } from './folders.ts';

/** One run of a program, as often as it is killed. */
export interface Call {
  program: string;
  env: Record<string, string>;
  /** The workspace that it uses, if any: looked over at every moment and at the end. */
  workspace?: string;
  repo: RepoId;
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
  /** Makes what must be there before, and gives the call of one writer. `shared`: all writers use one workspace, or one plan. */
  call(arena: Arena, repo: RepoId, writer: number, shared: boolean): Promise<Call>;
}

const needs = { publishes: true, registers: false, offline: false, named: false, gives: [], resumesFromHub: false };

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
      if ((await arena.manifest()) === undefined) await finish(new Program('sync', [], { ...arena.env, MODEL_ID: repo }).ended);
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

/** What a run makes that nobody hits is made first, in a workspace of its own: every other run must make the same. */
function compressing(name: string, method: string): Victim {
  return {
    ...needs,
    name,
    publishes: false,
    offline: true,
    call: async (arena, repo, writer, shared) => {
      const env = (workspace: string) => ({ METHOD: method, WORKSPACE: arena.workspace(workspace) });
      if (arena.derived.size === 0) {
        await fill(arena, 'reference', repo);
        await finish(new Program('compress', [], env('reference')).ended);
        for (const { folder, manifest, sha256 } of await heldModels(arena.workspace('reference'))) {
          if (manifest.derived) arena.derived.set(folder, sha256);
        }
      }
      const workspace = shared ? 'all' : String(writer);
      await fill(arena, workspace, repo);
      return { program: 'compress', repo, workspace, env: env(workspace) };
    },
  };
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
