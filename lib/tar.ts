const blockBytes = 512;
/** What eleven octal digits can say (POSIX.1-2017, pax, "ustar Interchange Format"). */
const maxUstarSize = 8 ** 11 - 1;
const maxUstarName = 100;

/**
 * What stands before a file's bytes in a tar archive: one ustar header, behind a pax header where path or size do not fit into it. Nothing in it but
 * path and size depends on anything, so that equal files give an equal archive: owner 0, time 0, mode 0644.
 */
export function tarHeader(path: string, size: number): Buffer {
  const records = [
    ...(/^[\x20-\x7e]*$/.test(path) && path.length <= maxUstarName ? [] : [paxRecord('path', path)]),
    ...(size > maxUstarSize ? [paxRecord('size', String(size))] : []),
  ];
  const own = ustar(Buffer.from(path).subarray(0, maxUstarName), size > maxUstarSize ? 0 : size, '0');
  if (records.length === 0) return own;
  const pax = Buffer.concat(records);
  return Buffer.concat([ustar(Buffer.from('PaxHeader'), pax.length, 'x'), pax, tarPadding(pax.length), own]);
}

/** What stands behind a file's bytes: zeros up to the next block. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc((blockBytes - (size % blockBytes)) % blockBytes);
}

/** What an archive ends with. */
export function tarEnd(): Buffer {
  return Buffer.alloc(2 * blockBytes);
}

/** Bytes that a file takes in an archive. */
export function tarSize(path: string, size: number): number {
  return tarHeader(path, size).length + size + tarPadding(size).length;
}

function ustar(name: Uint8Array, size: number, type: '0' | 'x'): Buffer {
  const header = Buffer.alloc(blockBytes);
  const octal = (value: number, offset: number, length: number) =>
    header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, offset, 'latin1');
  header.set(name, 0);
  octal(0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  header.write(`        ${type}`, 148, 'latin1');
  header.write('ustar\x0000', 257, 'latin1');
  octal(0, 329, 8);
  octal(0, 337, 8);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key: string, value: string): Buffer {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + String(rest).length;
  length = rest + String(length).length;
  return Buffer.from(`${length} ${key}=${value}\n`);
}
