import { bytesOf } from '../fakes/content.ts';
import { type Ended, Program } from '../fakes/program.ts';
import { fillWorkspace } from '../fakes/workspace.ts';
import type { Arena, RepoId } from './arena.ts';

/** One run of a program, as often as it is killed. */
export interface Call {
  program: string;
  env: Record<string, string>;
  /** The workspace that it uses, if any: looked over at the end. */
  workspace?: string;
  repo: RepoId;
}

export interface Victim {
  name: string;
  publishes: boolean;
  registers: boolean;
  /** A rerun takes only what is missing from the Hub; undefined: it takes nothing, or reads again what it hashes. */
  resumesFromHub: boolean;
  /** Makes what must be there before, and gives the call of one writer. `shared`: all writers use one workspace. */
  call(arena: Arena, repo: RepoId, writer: number, shared: boolean): Promise<Call>;
}

const needs = { publishes: true, registers: false, resumesFromHub: false };

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
  {
    ...needs,
    name: 'upload',
    call: async (arena, repo, writer, shared) => {
      const workspace = shared ? `all-${repo.slice(-3)}` : String(writer);
      const files = [...(arena.models.get(repo) ?? [])].map(([path, content]) => [path, bytesOf(content)] as const);
      await fillWorkspace(arena.workspace(workspace), Object.fromEntries(files), { repo, commit: arena.hub.repo(repo).sha() });
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

async function finish(ended: Promise<Ended>): Promise<void> {
  const { exitCode, stderr } = await ended;
  if (exitCode !== 0) throw new Error(`failed to prepare: exit ${exitCode}: ${stderr}`);
}
