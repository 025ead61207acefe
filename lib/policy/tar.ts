import { type Bytes, Cursor, EndOfBytes } from './bytes.ts';
import { BadArchive } from './zip.ts';

/** A file in a tar archive. */
export interface TarMember {
  name: string;
  /** Where its bytes lie in the archive. */
  offset: number;
  size: number;
}

const blockBytes = 512;
/** An archive with more entries than that is not walked to its end, nor one whose headers are spread over more than that. */
const maxEntries = 10_000;
const maxFetched = 16 * 1024 ** 2;
/** Longer names are made to waste memory. */
const maxName = 64 * 1024;

/** True for a block that a tar archive begins with: POSIX's and GNU's magic, or the sum that the format before them has too. */
export function isTarHeader(block: Buffer): boolean {
  if (block.length < blockBytes || block[0] === 0) return false;
  const sum = octal(block.subarray(148, 156));
  return sum !== undefined && sum === block.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0);
}

/**
 * The files of a tar archive (POSIX.1-2017, pax, "ustar Interchange Format"; GNU's long names and sparse files), and whether its end was seen. Throws
 * BadArchive for entries that no model needs and that would write outside of the folder it is unpacked into, or far more than the archive holds.
 */
export async function tarMembers(bytes: Bytes): Promise<{ members: TarMember[]; whole: boolean }> {
  const cursor = new Cursor(bytes);
  const members: TarMember[] = [];
  let next: NextEntry = {};
  try {
    for (let entries = 0; !cursor.atEnd; entries += 1) {
      if (entries > maxEntries || cursor.fetched > maxFetched) return { members, whole: false };
      const block = await cursor.take(blockBytes);
      // Zeros end it, but readers of concatenated archives go on behind them.
      if (block.every((byte) => byte === 0)) continue;
      if (!isTarHeader(block)) return { members, whole: true };
      const type = String.fromCharCode(block[156] || 0x30);
      const size = next.size ?? numberIn(block.subarray(124, 136));
      const padded = Math.ceil(size / blockBytes) * blockBytes;
      if ('xgLK'.includes(type)) {
        if (size > maxName) throw new BadArchive(`it has a name of ${size} bytes`);
        const text = (await cursor.take(padded)).toString('utf8', 0, size);
        next = withExtension(next, type, text, bytes.size);
        continue;
      }
      const name = next.name ?? nameOf(block);
      next = {};
      checkEntry(name, type, block, bytes.size);
      // Links and folders hold nothing.
      if ('125'.includes(type)) continue;
      members.push({ name, offset: cursor.position, size });
      await cursor.skip(Math.min(padded, bytes.size - cursor.position));
    }
  } catch (error) {
    if (!(error instanceof EndOfBytes)) throw error;
    return { members, whole: false };
  }
  return { members, whole: true };
}

/** What an extension has said of the entry behind it. */
interface NextEntry {
  name?: string | undefined;
  size?: number | undefined;
}

/** The same with what one more extension says: GNU's long name (L) or link (K), or pax records of the next entry (x) or of all (g). */
function withExtension(next: NextEntry, type: string, text: string, archiveSize: number): NextEntry {
  if (type === 'L') return { ...next, name: text.replace(/\0+$/, '') };
  if (type === 'K') checkLink(text.replace(/\0+$/, ''));
  if (type !== 'x') return next;
  const { path, size, linkpath, 'GNU.sparse.realsize': real } = paxRecords(text);
  if (linkpath !== undefined) checkLink(linkpath);
  if (real !== undefined) checkSparse(Number(real), archiveSize);
  return { name: path ?? next.name, size: size === undefined ? undefined : Number(size) };
}

/** Throws BadArchive for what no model needs: links (1, 2) and names that lead out, devices and pipes (3, 4, 6), files of nothing but holes (S). */
function checkEntry(name: string, type: string, block: Buffer, archiveSize: number): void {
  checkName(name);
  if (type === '1' || type === '2') checkLink(textOf(block.subarray(157, 257)));
  if (type === '3' || type === '4' || type === '6') throw new BadArchive(`${name} is a device`);
  if (type === 'S') checkSparse(numberIn(block.subarray(483, 495)), archiveSize);
}

function checkName(name: string): void {
  if (name.startsWith('/') || name.split(/[\\/]/).includes('..'))
    throw new BadArchive(`${name} leaves the folder that it is unpacked into`);
}

function checkLink(target: string): void {
  if (target.startsWith('/') || target.split(/[\\/]/).includes('..'))
    throw new BadArchive(`it has a link to ${target}, outside of its folder`);
}

/** A file with holes is as large as it says, however little of it is there. */
function checkSparse(size: number, archiveSize: number): void {
  if (!(size <= Math.max(1024 ** 3, archiveSize * 100))) throw new BadArchive(`it has a file of ${size} bytes that are not in it`);
}

function nameOf(block: Buffer): string {
  const prefix = block.toString('latin1', 257, 263) === 'ustar\0' ? textOf(block.subarray(345, 500)) : '';
  return `${prefix}${prefix === '' ? '' : '/'}${textOf(block.subarray(0, 100))}`;
}

function textOf(field: Buffer): string {
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? field.length : end);
}

/** A size, in octal digits or, where its first bit is set, in binary (GNU). Throws BadArchive for neither. */
function numberIn(field: Buffer): number {
  const value = ((field[0] ?? 0) & 0x80) !== 0 ? Number(BigInt(`0x${field.toString('hex')}`) & ((1n << 88n) - 1n)) : (octal(field) ?? 0);
  if (!Number.isSafeInteger(value)) throw new BadArchive('it has a file of impossible size');
  return value;
}

function octal(field: Buffer): number | undefined {
  const digits = /^[ \0]*([0-7]+)[ \0]*/.exec(field.toString('latin1'))?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 8);
}

/** `<length> <key>=<value>\n`, one behind the other. */
function paxRecords(text: string): Record<string, string | undefined> {
  return Object.fromEntries([...text.matchAll(/\d+ ([^=\n]+)=([^\n]*)\n/g)].map(([, key, value]) => [key, value]));
}
