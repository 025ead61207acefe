import { readFile } from 'node:fs/promises';
import type { Terms } from '../dry-run.ts';
import { messageOf } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import { checkServing } from '../lint/gate.ts';
import { lintProfileOf } from '../lint/lint.ts';
import { lintFolder } from '../lint/local.ts';
import type { Log } from '../log.ts';
import type { Selection } from '../manifest.ts';
import type { GroupValues } from '../params/declare.ts';
import type { lintParams } from '../params/groups.ts';
import type { ModelFolder } from '../workspace.ts';

/** A model in a workspace, before it is published. */
export interface Candidate {
  files: readonly Expected[];
  selection: Selection;
  folder: ModelFolder;
  /** Where it is to lie: for messages. */
  uri: string;
}

/** What the Hub said of the model when it was downloaded: the bytes of source.json; undefined where it is not there. */
export async function sourceOf({ source }: ModelFolder): Promise<Buffer | undefined> {
  return await readFile(source).catch(() => undefined);
}

/** Says what may keep a server from a model in a folder. Throws `refused` as checkServing does. */
export async function checkFolder(
  { files, selection, folder, uri }: Candidate,
  { lint }: GroupValues<typeof lintParams>,
  log: Log,
): Promise<void> {
  const findings = () =>
    lintFolder(folder.files, files, lintProfileOf({ selection })).catch((error: unknown) => {
      // What cannot be read, the upload itself will tell.
      log.debug({ error: messageOf(error) }, 'not linted');
      return [];
    });
  await checkServing(findings, { lint, uri, log });
}

/** The terms in source.json; none where it is missing or not as we write it. */
export function termsOf(source: Uint8Array | undefined): Terms {
  try {
    const { license, gated, private: secret } = JSON.parse(source ? Buffer.from(source).toString('utf8') : '{}') as Terms;
    return {
      ...(typeof license === 'string' && { license }),
      ...((gated === 'auto' || gated === 'manual' || gated === false) && { gated }),
      ...(typeof secret === 'boolean' && { private: secret }),
    };
  } catch {
    return {};
  }
}
