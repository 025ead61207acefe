import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { bytesOfBuffer } from '../lib/policy/bytes.ts';
import { inspect } from '../lib/policy/inspect.ts';
import { pickleImports } from '../lib/policy/pickle.ts';
import { tarHeader } from '../lib/tar.ts';

/** Python writes pickles and archives, and its own pickletools says what is in them: `name: base64` with the globals that it sees. */
const script = `
import base64, collections, io, json, pickle, pickletools, struct, zipfile
out = {}
def say(name, data, globs=None): out[name] = {'data': base64.b64encode(data).decode(), 'globals': globs}
class Evil:
    def __reduce__(self): return (__import__('os').system, ('true',))
def globs(data):
    found, strings = [], []
    for opcode, arg, _ in pickletools.genops(data):
        if opcode.name in ('GLOBAL', 'INST'): found.append(arg)
        elif opcode.name == 'STACK_GLOBAL': found.append(' '.join(strings[-2:]))
        elif isinstance(arg, str) and 'UNICODE' in opcode.name: strings.append(arg)
    return sorted(set(found))
plain = {'a': [1, 2.5, None, True, b'bytes', 'text' * 500, (1, 2, 3), {4}, frozenset([5]), 2 ** 80], 'b': list(range(3000))}
state = collections.OrderedDict(x=bytearray(100), y=complex(1, 2))
for protocol in range(6):
    say(f'plain {protocol}', pickle.dumps(plain, protocol), [] if protocol != 0 and protocol > 3 else None)
    say(f'state {protocol}', pickle.dumps(state, protocol), None)
    say(f'evil {protocol}', pickle.dumps([plain, Evil()], protocol), globs(pickle.dumps([plain, Evil()], protocol)))
evil = pickle.dumps(Evil(), 2)
say('second of two', pickle.dumps(plain, 2) + pickle.dumps(Evil(), 0) + b'raw weights follow')
say('broken behind', evil[:-1] + b'\\xff')
say('inst', b'(S\\'true\\'\\nios\\nsystem\\n.')
say('computed', b'\\x80\\x04\\x8c\\x02os\\x94K\\x01\\x93.')
say('escaped', b"\\x80\\x04S'o\\\\x73'\\nS'system'\\n\\x93.")
say('unicode escape', b"\\x80\\x04V\\\\u006fs\\nVsystem\\n\\x93.")
say('extension', b'\\x80\\x02\\x82\\x01.')
say('memo', b'\\x80\\x04\\x8c\\x02os\\x940\\x8c\\x06system\\x940h\\x00h\\x01\\x93.')
def archive(members, method=zipfile.ZIP_STORED, front=b''):
    file = io.BytesIO(front); file.seek(len(front))
    with zipfile.ZipFile(file, 'w', method) as z:
        for name, data in members.items(): z.writestr(name, data)
    return file.getvalue()
good = pickle.dumps(state, 2)
say('torch', archive({'archive/data.pkl': good, 'archive/data/0': bytes(5000), 'archive/version': b'3'}))
say('torch evil', archive({'archive/data.pkl': evil, 'archive/data/0': bytes(5000)}))
say('torch deflated evil', archive({'archive/data.pkl': evil}, zipfile.ZIP_DEFLATED))
say('zip behind a pickle', archive({'archive/data.pkl': good}, front=evil))
say('bomb', archive({'archive/data.pkl': bytes(200 << 20)}, zipfile.ZIP_DEFLATED))
say('cut archive', archive({'archive/data.pkl': good})[:60])
import bz2, gzip, lzma, tarfile, zlib
def tar(members, **more):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w', **more) as t:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(data, bytes): info.size = len(data)
            else: info.type, info.linkname = data
            t.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return file.getvalue()
say('zip in zip evil', archive({'inner.zip': archive({'a/data.pkl': evil}, zipfile.ZIP_DEFLATED)}))
say('tar evil', tar({'weights/model.ckpt': evil, 'notes.txt': b'x'}))
say('old tar evil', tar({'sys_info': b'{}', 'pickle': evil}, format=tarfile.USTAR_FORMAT))
say('long name evil', tar({'a/' * 90 + 'model.pt': evil}, format=tarfile.GNU_FORMAT))
say('pax name evil', tar({'é/' * 90 + 'model.pt': evil}, format=tarfile.PAX_FORMAT))
say('tar.gz evil', gzip.compress(tar({'weights/model.ckpt': evil})))
say('joblib zlib evil', zlib.compress(pickle.dumps([plain, Evil()], 4)))
say('joblib gzip evil', gzip.compress(evil))
say('tar good', tar({'weights/model.ckpt': good, 'run.sh': b'x', 'a/link': (tarfile.SYMTYPE, 'run.sh')}))
say('tar that leaves', tar({'../../etc/passwd': b'x'}))
say('tar with a link', tar({'a': (tarfile.SYMTYPE, '/etc'), 'a/passwd': b'x'}))
say('tar with a device', tar({'a': (tarfile.CHRTYPE, '')}))
say('gzip bomb', gzip.compress(bytes(200 << 20)))
huge = bytearray(archive({'a.txt': bytes(1000)}, zipfile.ZIP_DEFLATED))
struct.pack_into('<I', huge, huge.rindex(b'PK\\x01\\x02') + 24, 1153433600)
say('zip bomb of text', bytes(huge))
deep = archive({'a/data.pkl': good})
for i in range(6): deep = archive({f'{i}.zip': deep})
say('matryoshka', deep)
over = bytearray(archive({'a.txt': bytes(1000), 'b.txt': bytes(1000), 'c.txt': bytes(1000)}))
def overlap(data):
    at = [i for i in range(len(data)) if data[i:i+4] == b'PK\\x01\\x02']
    first = data[at[0]+42:at[0]+46]
    for i in at: data[i+42:i+46] = first
    cut = 2 * (30 + 5 + 1000)
    end = data.rindex(b'PK\\x05\\x06')
    out = data[:1035] + data[at[0]:end]
    tail = bytearray(data[end:]); tail[16:20] = struct.pack('<I', 1035)
    return bytes(out + tail)
say('overlapping zip', overlap(over))
say('joblib bz2', bz2.compress(evil))
say('text gz', gzip.compress(b'hello'))
say('broken zlib evil', zlib.compress(evil + bytes(range(256)) * 1000)[:-400] + bytes(400))
say('xz', lzma.compress(b'hello'))
npy = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\\n"
say('npy', b'\\x93NUMPY\\x01\\x00' + struct.pack('<H', len(npy)) + npy + evil)
print(json.dumps(out))
`;

const python = spawnSync('python3', ['-c', script], { encoding: 'utf8', maxBuffer: 64 * 1024 ** 2 });
if (python.status !== 0) throw new Error(python.stderr);
const samples = JSON.parse(python.stdout) as Record<string, { data: string; globals: string[] | null }>;
const bytes = (name: string) => bytesOfBuffer(Buffer.from(samples[name]?.data ?? '', 'base64'));

/** What stands in an endless row of equal pieces. */
function repeated(piece: Buffer, offset: number, length: number): Buffer {
  const from = offset % piece.length;
  return Buffer.concat(Array.from({ length: Math.ceil((from + length) / piece.length) }, () => piece)).subarray(from, from + length);
}

describe('a look into a pickle', () => {
  test.each(Object.keys(samples).filter((name) => /^(plain|evil) \d/.test(name)))('finds in "%s" what pickletools finds', async (name) => {
    const { imports, unknown, whole } = await pickleImports(bytes(name));
    expect([unknown, whole]).toEqual([undefined, true]);
    if (name.startsWith('evil'))
      expect(imports.filter((each) => each.endsWith('system'))).toEqual([expect.stringMatching(/^(posix|nt) system$/)]);
    const { globals } = samples[name] as { globals: string[] | null };
    if (globals) expect(imports.sort()).toEqual(globals);
  });

  test.each(Object.keys(samples).filter((name) => /^(plain|state) \d|^torch$/.test(name)))('takes "%s" as it is', async (name) => {
    expect(await inspect(bytes(name))).toEqual({ pickle: true, unsafe: [], unseen: [] });
  });

  test.each([
    'evil 0',
    'evil 4',
    'second of two',
    'broken behind',
    'inst',
    'memo',
    'torch evil',
    'torch deflated evil',
    'zip behind a pickle',
    'npy',
    'zip in zip evil',
    'tar evil',
    'old tar evil',
    'long name evil',
    'pax name evil',
    'tar.gz evil',
    'joblib zlib evil',
    'joblib gzip evil',
    'broken zlib evil',
  ])('finds the import in "%s"', async (name) => {
    expect(await inspect(bytes(name))).toEqual({ pickle: true, unsafe: [expect.stringMatching(/^(posix|os|nt)\.system$/)], unseen: [] });
  });

  test.each([
    ['computed', 'an import whose name is computed'],
    ['escaped', 'an import whose name is computed'],
    ['unicode escape', 'an import whose name is computed'],
    ['extension', 'extension registry'],
    ['bomb', 'unpacks to 209715200 bytes'],
    ['cut archive', 'it has no directory'],
    ['tar that leaves', '../../etc/passwd leaves the folder'],
    ['tar with a link', 'a link to /etc, outside'],
    ['tar with a device', 'a is a device'],
    ['gzip bomb', 'of its bytes unpack to'],
    ['zip bomb of text', 'unpack to 1153433600'],
    ['overlapping zip', 'lie over each other'],
    ['matryoshka', 'archives inside archives'],
  ])('does not trust "%s"', async (name, why) => {
    expect(await inspect(bytes(name))).toEqual({ pickle: true, unsafe: [expect.stringContaining(why)], unseen: [] });
  });

  test.each([
    ['joblib bz2', 'model.joblib', { pickle: true, unsafe: ['what bzip2 has packed'], unseen: [] }],
    ['joblib bz2', 'notes.txt.bz2', { pickle: false, unsafe: [], unseen: ['what bzip2 has packed'] }],
    ['xz', 'notes.xz', { pickle: false, unsafe: [], unseen: ['what xz has packed'] }],
    ['text gz', 'notes.txt.gz', { pickle: false, unsafe: [], unseen: [] }],
    ['tar good', 'weights.tar', { pickle: true, unsafe: [], unseen: [] }],
  ])('"%s" named %s', async (name, path, expected) => {
    expect(await inspect(bytes(name), path)).toEqual(expected);
  });

  test('does not go through a long tar to its end', async () => {
    const member = Buffer.concat([tarHeader('images/1.png', 600), Buffer.alloc(1024)]);
    const long = { size: member.length * 1e6, read: async (offset: number, length: number) => repeated(member, offset, length) };
    expect(await inspect(long, 'images.tar')).toEqual({ pickle: false, unsafe: [], unseen: ['the rest of a long tar'] });
  });

  test('is not misled by what is no pickle', async () => {
    for (const data of [
      '',
      'GGUF\x03\0\0\0',
      '{"json": true}',
      '\x08\x07\x12\x05onnx!',
      'PK',
      '(((((((',
      '\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f',
    ]) {
      expect(await inspect(bytesOfBuffer(Buffer.from(data, 'latin1'))), data).toEqual({ pickle: false, unsafe: [], unseen: [] });
    }
  });

  test('reads little of a large file', async () => {
    const head = Buffer.from(samples['state 2']?.data ?? '', 'base64');
    let read = 0;
    const large = {
      size: 40e9,
      async read(offset: number, length: number) {
        read += length;
        const piece = Buffer.alloc(length, 0xff);
        if (offset < head.length) head.copy(piece, 0, offset);
        return piece;
      },
    };
    expect(await inspect(large)).toEqual({ pickle: true, unsafe: [], unseen: [] });
    expect(read).toBeLessThan(200_000);
  });
});
