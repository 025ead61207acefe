import { type Bytes, bytesOfBuffer } from './bytes.ts';
import { isListed } from './listed.ts';
import { type PickleImports, pickleImports } from './pickle.ts';
import { isTarHeader, tarMembers } from './tar.ts';
import { type Unpacked, unpack } from './unpack.ts';
import { BadArchive, checkSizes, memberBytes, zipMembers } from './zip.ts';

/** What a look into one file found. */
export interface Finding {
  /** True when loading the file runs a pickle. */
  pickle: boolean;
  /** Imports that are not listed, and what cannot be known: in words, each once. */
  unsafe: string[];
  /** What was not looked into, in words, each once: archives of other kinds, and what lies far inside of large ones. */
  unseen: string[];
}

/** Names of files that Python loads as pickles, and of archives that may hold some. What .bin is, its bytes tell. */
const candidates =
  /\.(bin|pt|pt2|pth|ckpt|pkl|pickle|joblib|dill|npy|npz|dat|data|mar|model|zip|tar|nemo|tgz|gz|zst|tzst|z|bz2|tbz2|xz|txz|lzma|lz4|7z|rar)$/i;
const pickleNames = /(^|\/)[^/]*\.(pkl|pickle|pt|pth|bin|ckpt|joblib|dill|dat|data|npy)$/i;
/** In archives: those names, the members of TorchScript, and those of torch's oldest format, a tar. */
const pickleMembers = /^[^/]+\/(?:data|constants)$|^(?:pickle|tensors|storages)$/i;
const archiveNames = /\.(zip|npz|mar|tar|nemo|tgz|gz|zst|tzst|z|bz2|tbz2|xz|txz|lzma|lz4|7z|rar)$/i;
/** An archive with more pickles than that is made to waste time. */
const maxMembers = 10_000;
/** Archives inside archives are looked into so deep. */
const maxDepth = 3;

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

/** Looks into a file: as an archive where it is one, and as pickles from its start on, since loaders differ in what they look at first. */
export async function inspect(bytes: Bytes, path = ''): Promise<Finding> {
  const finding: Finding = { pickle: false, unsafe: [], unseen: [] };
  await look(bytes, { path, depth: 0, finding });
  finding.unsafe = [...new Set(finding.unsafe)];
  finding.unseen = [...new Set(finding.unseen)];
  return finding;
}

interface Place {
  path: string;
  depth: number;
  finding: Finding;
}

async function look(bytes: Bytes, { path, depth, finding }: Place): Promise<void> {
  if (bytes.size === 0) return;
  const start = await bytes.read(0, Math.min(bytes.size, 512));
  const zipped = start.toString('latin1', 0, 4) === 'PK\x03\x04';
  const distrust = (why: string) => {
    finding.pickle = true;
    finding.unsafe.push(why);
  };
  if (depth > maxDepth) return distrust('archives inside archives');
  const within = (member: string, inner: Bytes) => look(inner, { path: member, depth: depth + 1, finding });
  // What only looks like the end of a zip archive, in a file that does not begin as one, is nobody's archive.
  const zip = zipped || depth === 0 ? await failureOf(() => lookIntoZip(bytes, zipped, within)) : undefined;
  if (zipped) {
    if (zip !== undefined) distrust(`an archive that cannot be looked into: ${zip}`);
    return;
  }
  const other = await failureOf(async () => {
    if (isTarHeader(start)) return await lookIntoTar(bytes, finding, within);
    const unpacked = await unpack(bytes, start);
    if (unpacked !== undefined) await lookIntoPacked(unpacked, path, finding, within);
  });
  if (other !== undefined) distrust(`an archive that cannot be looked into: ${other}`);
  await inspectPickle(bytes, finding);
}

/** Why the archive is a bad one; undefined when it is not. */
async function failureOf(work: () => Promise<void>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (!(error instanceof BadArchive)) throw error;
    return error.message;
  }
}

type Within = (member: string, bytes: Bytes) => Promise<void>;

async function lookIntoZip(bytes: Bytes, zipped: boolean, within: Within): Promise<void> {
  const members = bytes.size < 22 ? undefined : await zipMembers(bytes);
  if (members === undefined && zipped) throw new BadArchive('it has no directory');
  const wanted = (members ?? []).filter(({ name }) => isWanted(name));
  if (wanted.length > maxMembers) throw new BadArchive(`it has ${wanted.length} pickles`);
  if (zipped) checkSizes(members ?? [], bytes.size);
  for (const member of wanted) await within(member.name, await memberBytes(bytes, member));
}

async function lookIntoTar(bytes: Bytes, finding: Finding, within: Within): Promise<void> {
  const { members, whole } = await tarMembers(bytes);
  if (!whole) finding.unseen.push('the rest of a long tar');
  for (const { name, offset, size } of members.filter((member) => isWanted(member.name))) {
    const inside = Math.min(size, bytes.size - offset);
    await within(name, { size: inside, read: (at, length) => bytes.read(offset + at, length) });
  }
}

/** A pickle that cannot be seen whole is not trusted; of other files that is told. */
async function lookIntoPacked({ name, bytes, whole }: Unpacked, path: string, finding: Finding, within: Within): Promise<void> {
  if (bytes !== undefined) await within(path.replace(/\.[^.]*$/, ''), bytesOfBuffer(bytes));
  if (whole) return;
  const what = bytes === undefined ? `what ${name} has packed` : `what ${name} has packed behind its first ${bytes.length} bytes`;
  if (!pickleNames.test(path)) finding.unseen.push(what);
  else {
    finding.pickle = true;
    finding.unsafe.push(what);
  }
}

function isWanted(member: string): boolean {
  return pickleNames.test(member) || pickleMembers.test(member) || archiveNames.test(member);
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
