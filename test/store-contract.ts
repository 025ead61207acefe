import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { kindOf } from '../lib/errors.ts';
import { type ObjectInfo, PreconditionFailed, type Store } from '../lib/store.ts';

export interface StoreUnderTest {
  store: Store;
  /** Keys are made below this, so that a real store can be shared. */
  root: string;
}

/** What every store promises: the publish protocol stands on each of these. */
export function storeContract(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(name, () => {
    let store: Store;
    let root: string;
    beforeEach(async () => {
      ({ store, root } = await open());
      // As every run does before it writes.
      await store.probe(`${root}/probe`);
    });
    const keys = async (prefix: string) => (await all(store, prefix)).map((object) => object.key);

    test('gives back what was put, with its metadata', async () => {
      const bytes = randomBytes(1000);
      const put = await store.put(`${root}/a/b.json`, bytes, { metadata: { 'modelferry-sha256': 'abc' }, model: true });
      const got = await store.get(`${root}/a/b.json`);
      expect(got?.bytes.equals(bytes)).toBe(true);
      expect(got?.info).toMatchObject({ size: 1000, etag: put.etag, metadata: { 'modelferry-sha256': 'abc' } });
      expect(await store.head(`${root}/a/b.json`)).toMatchObject({ size: 1000, etag: put.etag, metadata: { 'modelferry-sha256': 'abc' } });
    });

    test('takes empty objects and keys with spaces, signs and other scripts', async () => {
      for (const key of [`${root}/empty`, `${root}/with space+plus%25.txt`, `${root}/日本/ключ&=?#.txt`]) {
        await store.put(key, Buffer.alloc(0));
        expect((await store.get(key))?.bytes.length, key).toBe(0);
      }
      expect((await keys(`${root}/`)).length).toBe(3);
    });

    test('knows what is not there', async () => {
      expect(await store.get(`${root}/none`)).toBeUndefined();
      expect(await store.head(`${root}/none`)).toBeUndefined();
      expect(await keys(`${root}/none/`)).toEqual([]);
      await store.delete([`${root}/none`]);
    });

    test('lists by raw prefix, in order, over pages', async () => {
      const names = Array.from({ length: 25 }, (_, index) => `${root}/list/${String(index).padStart(2, '0')}`);
      await Promise.all(names.map((name) => store.put(name, Buffer.from(name))));
      await store.put(`${root}/list-not`, Buffer.from('x'));
      expect(await keys(`${root}/list/`)).toEqual(names);
      expect(await keys(`${root}/list`)).toEqual([`${root}/list-not`, ...names]);
    });

    test('puts only where nothing is', async () => {
      const { conditionalWrites } = await store.probe(`${root}/probe`);
      expect(conditionalWrites).toBe(true);
      expect(await store.head(`${root}/probe`)).toBeUndefined();
      await store.put(`${root}/once`, Buffer.from('first'), { condition: { absent: true } });
      await expect(store.put(`${root}/once`, Buffer.from('second'), { condition: { absent: true } })).rejects.toBeInstanceOf(
        PreconditionFailed,
      );
      expect((await store.get(`${root}/once`))?.bytes.toString()).toBe('first');
    });

    test('of many writers at once, one is first', async () => {
      const tries = Array.from({ length: 8 }, (_, index) =>
        store.put(`${root}/race`, Buffer.from(`writer ${index}`), { condition: { absent: true } }),
      );
      const ends = await Promise.allSettled(tries);
      expect(ends.filter((end) => end.status === 'fulfilled').length).toBe(1);
    });

    test('puts only over the object that it was shown', async () => {
      const first = await store.put(`${root}/match`, Buffer.from('first'));
      const second = await store.put(`${root}/match`, Buffer.from('second'), { condition: { etag: first.etag } });
      await expect(store.put(`${root}/match`, Buffer.from('third'), { condition: { etag: first.etag } })).rejects.toBeInstanceOf(
        PreconditionFailed,
      );
      expect(second.etag).not.toBe(first.etag);
      expect((await store.get(`${root}/match`))?.bytes.toString()).toBe('second');
    });

    test('deletes', async () => {
      for (const name of ['x/1', 'x/2', 'x/3']) await store.put(`${root}/${name}`, Buffer.from(name));
      await store.delete([`${root}/x/1`, `${root}/x/3`]);
      expect(await keys(`${root}/x/`)).toEqual([`${root}/x/2`]);
    });

    test('reads ranges of the object that it was shown', async () => {
      const bytes = randomBytes(5000);
      const { etag } = await store.put(`${root}/range`, bytes);
      const into = Buffer.alloc(1000);
      await store.getRange(`${root}/range`, 4000, into, { etag });
      expect(into.equals(bytes.subarray(4000))).toBe(true);
      await store.put(`${root}/range`, randomBytes(5000));
      await expect(store.getRange(`${root}/range`, 0, into, { etag })).rejects.toBeInstanceOf(PreconditionFailed);
    });

    test('copies what has not changed, with new metadata', async () => {
      const bytes = randomBytes(2000);
      const source = await store.put(`${root}/from space`, bytes, { metadata: { old: '1' } });
      await store.copy(source, `${root}/to`, { 'modelferry-sha256': 'def' });
      const got = await store.get(`${root}/to`);
      expect(got?.bytes.equals(bytes)).toBe(true);
      expect(got?.info.metadata).toEqual({ 'modelferry-sha256': 'def' });
      await store.put(`${root}/from space`, randomBytes(2000));
      await expect(store.copy(source, `${root}/to2`, {})).rejects.toBeInstanceOf(PreconditionFailed);
      expect(await store.head(`${root}/to2`)).toBeUndefined();
    });

    test('copies what is larger than one request may copy, with new metadata, and nothing that has changed', async () => {
      const bytes = randomBytes(Math.min(store.limits.maxCopy, 12 * 1024 ** 2) + 1);
      const source = await store.put(`${root}/large`, bytes.subarray(0, 100));
      const upload = await store.beginMultipart(`${root}/large`, { size: bytes.length, partSize: 6 * 1024 ** 2 });
      const parts = [];
      for (let at = 0; at < bytes.length; at += 6 * 1024 ** 2) {
        parts.push(await store.uploadPart(upload, parts.length + 1, bytes.subarray(at, at + 6 * 1024 ** 2)));
      }
      const large = await store.completeMultipart(upload, parts, bytes.length);
      await store.copy(large, `${root}/copy of it`, { 'modelferry-sha256': 'jkl' });
      const got = await store.get(`${root}/copy of it`);
      expect(got?.bytes.equals(bytes)).toBe(true);
      expect(got?.info.metadata).toEqual({ 'modelferry-sha256': 'jkl' });
      await expect(store.copy({ ...large, etag: source.etag }, `${root}/never`, {})).rejects.toBeInstanceOf(PreconditionFailed);
      expect(await store.head(`${root}/never`)).toBeUndefined();
      expect(await store.listMultiparts(`${root}/`)).toEqual([]);
    });

    describe('multipart', () => {
      const partSize = 5 * 1024 ** 2;
      const bytes = randomBytes(2 * partSize + 1234);
      const part = (number: number) => bytes.subarray((number - 1) * partSize, number * partSize);

      test('becomes an object when it is completed, not before', async () => {
        const key = `${root}/big`;
        const upload = await store.beginMultipart(key, { size: bytes.length, partSize, metadata: { 'modelferry-sha256': 'ghi' } });
        const parts = await Promise.all([1, 2, 3].map((number) => store.uploadPart(upload, number, part(number))));
        expect(await store.head(key)).toBeUndefined();
        const completed = await store.completeMultipart(upload, parts, bytes.length);
        const got = await store.get(key);
        expect(got?.bytes.equals(bytes)).toBe(true);
        expect(completed.etag).toBe(got?.info.etag);
        expect(got?.info.metadata).toEqual({ 'modelferry-sha256': 'ghi' });
        expect(await store.listMultiparts(`${root}/`)).toEqual([]);
      });

      test('is found again and gone on with', async () => {
        const key = `${root}/resumed`;
        const upload = await store.beginMultipart(key, { size: bytes.length, partSize });
        await store.uploadPart(upload, 2, part(2));
        // MinIO lists them only for a whole key.
        const open = await store.listMultiparts(key);
        expect(open?.map(({ key: name, uploadId }) => [name, uploadId])).toEqual([[key, upload.uploadId]]);
        const there = await store.listParts(upload);
        expect(there?.map(({ number, size }) => [number, size])).toEqual([[2, partSize]]);
        const second = there?.[0];
        expect(second && store.partMatches(second, part(2))).toBe(true);
        expect(second && store.partMatches(second, Buffer.alloc(partSize))).toBe(false);
        const parts = [
          await store.uploadPart(upload, 1, part(1)),
          second as NonNullable<typeof second>,
          await store.uploadPart(upload, 3, part(3)),
        ];
        await store.completeMultipart(upload, parts, bytes.length);
        expect((await store.get(key))?.bytes.equals(bytes)).toBe(true);
      });

      test('leaves nothing when it is aborted', async () => {
        const upload = await store.beginMultipart(`${root}/aborted`, { size: bytes.length, partSize });
        await store.uploadPart(upload, 1, part(1));
        await store.abortMultipart(upload);
        await store.abortMultipart(upload);
        expect(await store.listParts(upload)).toBeUndefined();
        expect(await store.listMultiparts(`${root}/`)).toEqual([]);
        await expect(store.uploadPart(upload, 2, part(2))).rejects.toSatisfy((error) => kindOf(error) === 'not-found');
      });
    });
  });
}

async function all(store: Store, prefix: string): Promise<ObjectInfo[]> {
  const found: ObjectInfo[] = [];
  for await (const object of store.list(prefix)) found.push(object);
  return found;
}
