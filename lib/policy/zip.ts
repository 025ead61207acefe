import { inflateRawSync } from 'node:zlib';
import { type Bytes, bytesOfBuffer } from './bytes.ts';

/** One member of a zip archive, as its central directory says. */
export interface ZipMember {
  name: string;
  method: number;
  encrypted: boolean;
  packedSize: number;
  size: number;
  headerOffset: number;
}

/** The archive is none, is broken, or is built so that reading it costs more than it should. */
export class BadArchive extends Error {}

const maxDirectory = 64 * 1024 ** 2;
/** Bytes that one packed member may become in memory. */
const maxUnpacked = 64 * 1024 ** 2;
const endSignature = Buffer.from('PK\x05\x06', 'latin1');

/**
 * The members of the zip archive that the file ends with; undefined when it ends with none. Zip64 is read (APPNOTE.TXT 6.3.10, sections 4.3
 * and 4.5.3). Throws BadArchive.
 */
export async function zipMembers(bytes: Bytes): Promise<ZipMember[] | undefined> {
  const tailLength = Math.min(bytes.size, 22 + 65_535 + 20);
  const tail = await bytes.read(bytes.size - tailLength, tailLength);
  const at = tail.lastIndexOf(endSignature);
  if (at < 0 || at + 22 > tail.length) return undefined;
  let count = tail.readUInt16LE(at + 10);
  let length = tail.readUInt32LE(at + 12);
  let offset = tail.readUInt32LE(at + 16);
  if (at >= 20 && tail.readUInt32LE(at - 20) === 0x07064b50) {
    const place = Number(tail.readBigUInt64LE(at - 12));
    const record = await readAt(bytes, place, 56);
    if (record.readUInt32LE(0) !== 0x06064b50) throw new BadArchive('its zip64 record is missing');
    count = Number(record.readBigUInt64LE(32));
    length = Number(record.readBigUInt64LE(40));
    offset = Number(record.readBigUInt64LE(48));
  }
  if (length > maxDirectory) throw new BadArchive(`its directory has ${length} bytes`);
  const directory = await readAt(bytes, offset, length);
  const members: ZipMember[] = [];
  for (let here = 0; members.length < count; ) {
    if (here + 46 > directory.length || directory.readUInt32LE(here) !== 0x02014b50) throw new BadArchive('its directory is cut');
    const nameLength = directory.readUInt16LE(here + 28);
    const extraLength = directory.readUInt16LE(here + 30);
    const end = here + 46 + nameLength + extraLength + directory.readUInt16LE(here + 32);
    if (end > directory.length) throw new BadArchive('its directory is cut');
    members.push(memberAt(directory, here, nameLength, extraLength));
    here = end;
  }
  return members;
}

/** Archives that unpack to less are no bombs, whatever their ratio: a model's disk takes them. */
const harmless = 1024 ** 3;
const maxRatio = 100;

/**
 * Throws BadArchive for a bomb: members that share their bytes (D. Fifield, "A better zip bomb", 2019), or that become more than a GiB and a hundred
 * times the archive's size.
 */
export function checkSizes(members: readonly ZipMember[], archiveSize: number): void {
  const sum = (size: (member: ZipMember) => number) => members.reduce((total, member) => total + size(member), 0);
  if (sum(({ packedSize }) => packedSize) > archiveSize) throw new BadArchive('its members lie over each other');
  const unpacked = sum(({ size }) => size);
  if (unpacked > harmless && unpacked > archiveSize * maxRatio) throw new BadArchive(`its ${archiveSize} bytes unpack to ${unpacked}`);
}

function memberAt(directory: Buffer, here: number, nameLength: number, extraLength: number): ZipMember {
  const extra = directory.subarray(here + 46 + nameLength, here + 46 + nameLength + extraLength);
  const large: number[] = [];
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    const end = Math.min(extra.length, at + 4 + extra.readUInt16LE(at + 2));
    for (let value = at + 4; value + 8 <= end; value += 8) large.push(Number(extra.readBigUInt64LE(value)));
  }
  // Those that do not fit into 32 bits stand in the extra field, in this order.
  const number = (place: number) => {
    const small = directory.readUInt32LE(here + place);
    return small === 0xffffffff ? (large.shift() ?? small) : small;
  };
  const size = number(24);
  const packedSize = number(20);
  return {
    name: directory.subarray(here + 46, here + 46 + nameLength).toString('utf8'),
    method: directory.readUInt16LE(here + 10),
    encrypted: (directory.readUInt16LE(here + 8) & 1) === 1,
    size,
    packedSize,
    headerOffset: number(42),
  };
}

/** A member's bytes: where they lie in the archive, or unpacked in memory. Throws BadArchive when it is packed in a way that cannot be looked into. */
export async function memberBytes(bytes: Bytes, member: ZipMember): Promise<Bytes> {
  const header = await readAt(bytes, member.headerOffset, 30);
  if (header.readUInt32LE(0) !== 0x04034b50) throw new BadArchive(`${member.name} is not where its directory says`);
  const start = member.headerOffset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
  if (member.encrypted) throw new BadArchive(`${member.name} is encrypted`);
  if (start + member.packedSize > bytes.size) throw new BadArchive(`${member.name} is cut`);
  if (member.method === 0) return { size: member.packedSize, read: (offset, length) => bytes.read(start + offset, length) };
  if (member.method !== 8) throw new BadArchive(`${member.name} is packed by method ${member.method}`);
  if (Math.max(member.size, member.packedSize) > maxUnpacked) throw new BadArchive(`${member.name} unpacks to ${member.size} bytes`);
  const packed = await bytes.read(start, member.packedSize);
  try {
    return bytesOfBuffer(inflateRawSync(packed, { maxOutputLength: maxUnpacked }));
  } catch {
    throw new BadArchive(`${member.name} cannot be unpacked within ${maxUnpacked} bytes`);
  }
}

async function readAt(bytes: Bytes, offset: number, length: number): Promise<Buffer> {
  if (!Number.isSafeInteger(offset) || offset + length > bytes.size) throw new BadArchive('it is cut');
  return await bytes.read(offset, length);
}
