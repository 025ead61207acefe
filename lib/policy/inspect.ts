import type { Bytes } from './bytes.ts';
import { isListed } from './listed.ts';
import { type PickleImports, pickleImports } from './pickle.ts';
import { BadArchive, memberBytes, zipMembers } from './zip.ts';

/** What a look into one file found. */
export interface Finding {
  /** True when loading the file runs a pickle. */
  pickle: boolean;
  /** Imports that are not listed, and what cannot be known: in words, each once. */
  unsafe: string[];
}

/** Names of files that Python loads as pickles, or as archives that hold some. What .bin is, its bytes tell. */
const candidates = /\.(bin|pt|pt2|pth|ckpt|pkl|pickle|joblib|dill|npy|npz|dat|data|mar|model|zip)$/i;
const pickleMembers = /(^|\/)[^/]*\.(pkl|pickle|pt|pth|bin|ckpt|joblib|dat|data|npy)$|^[^/]+\/(?:data|constants)$/i;
/** An archive with more pickles than that is made to waste time. */
const maxMembers = 10_000;

/** True for a file whose bytes must be looked into. */
export function isCandidate(path: string): boolean {
  return candidates.test(path);
}

/** True for a name under which Python code or a pickle is loaded for sure: known before a byte is read. */
export function isUnsafeName(path: string): boolean {
  return (
    /\.(py|pkl|pickle|pt|pth|ckpt|joblib|dill)$/i.test(path) ||
    /(^|\/)(pytorch_model|adapter_model|training_args|optimizer|scheduler)[^/]*\.bin$/i.test(path)
  );
}

/** True for a Python file: a model's remote code. */
export function isCode(path: string): boolean {
  return /\.py$/i.test(path);
}

/** Looks into a file: as a zip archive where it ends as one, and as pickles from its start on, since loaders differ in what they look at first. */
export async function inspect(bytes: Bytes): Promise<Finding> {
  const finding: Finding = { pickle: false, unsafe: [] };
  if (bytes.size === 0) return finding;
  const start = await bytes.read(0, Math.min(bytes.size, 4));
  const zipped = start.subarray(0, 4).toString('latin1') === 'PK\x03\x04';
  try {
    const members = bytes.size < 22 ? undefined : await zipMembers(bytes);
    if (members === undefined && zipped) throw new BadArchive('it has no directory');
    const pickles = (members ?? []).filter(({ name }) => pickleMembers.test(name));
    if (pickles.length > maxMembers) throw new BadArchive(`it has ${pickles.length} pickles`);
    for (const member of pickles) await inspectPickle(await memberBytes(bytes, member), finding);
  } catch (error) {
    if (!(error instanceof BadArchive)) throw error;
    // What only looks like the end of an archive, in a file that does not begin as one, is nobody's archive.
    if (zipped) {
      finding.pickle = true;
      finding.unsafe.push(`an archive that cannot be looked into: ${error.message}`);
    }
  }
  if (!zipped) await inspectPickle(bytes, finding);
  finding.unsafe = [...new Set(finding.unsafe)];
  return finding;
}

async function inspectPickle(bytes: Bytes, finding: Finding): Promise<void> {
  const found = await pickleImports(bytes, await startOf(bytes));
  // Tensors inside an archive and other data are no pickles: their walk ends at once, with nothing found.
  if (!found.whole && found.imports.length === 0 && found.unknown === undefined) return;
  finding.pickle = true;
  finding.unsafe.push(...unsafeOf(found));
}

function unsafeOf({ imports, unknown }: PickleImports): string[] {
  const unlisted = imports.filter((name) => !isListed(name)).map((name) => name.replace(' ', '.'));
  return unknown === undefined ? unlisted : [...unlisted, unknown];
}

/** Behind the header of a .npy file, whose arrays of objects are pickles (NumPy enhancement proposal 1). */
async function startOf(bytes: Bytes): Promise<number> {
  if (bytes.size < 12) return 0;
  const head = await bytes.read(0, 12);
  if (head.toString('latin1', 0, 6) !== '\x93NUMPY') return 0;
  return head[6] === 1 ? 10 + head.readUInt16LE(8) : 12 + head.readUInt32LE(8);
}
