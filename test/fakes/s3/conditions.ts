import type { Call } from './call.ts';
import { S3Error } from './errors.ts';
import type { StoredObject } from './state.ts';

/** Refuses a write whose If-Match or If-None-Match does not hold against the current version, as AWS does or as the options say. */
export function checkWrite(call: Call): void {
  const ifMatch = call.header('if-match');
  const ifNoneMatch = call.header('if-none-match');
  if (ifMatch === undefined && ifNoneMatch === undefined) return;
  if (call.settings.conditionalWrites === 'ignored') return;
  if (call.settings.conditionalWrites === 'refused') {
    throw new S3Error('NotImplemented', { Header: ifMatch === undefined ? 'If-None-Match' : 'If-Match' });
  }
  if (ifNoneMatch !== undefined && ifNoneMatch !== '*') throw new S3Error('NotImplemented', { Header: 'If-None-Match' });
  const ceph = call.settings.conditionalWrites === 'ceph';
  const current = call.bucket.latest(call.key);
  if (ifNoneMatch !== undefined && current) throw new S3Error('PreconditionFailed', { Condition: 'If-None-Match' });
  if (ifMatch === undefined) return;
  if (!current) throw new S3Error('NoSuchKey', { Key: call.key });
  const holds = ceph ? ifMatch === current.etag.replaceAll('"', '') : matches(ifMatch, current.etag);
  if (!holds) throw new S3Error('PreconditionFailed', { Condition: 'If-Match' });
}

/** Refuses a read whose conditions do not hold: 412, or 304 with the headers of the object. */
export function checkRead(call: Call, object: StoredObject): void {
  const ifMatch = call.header('if-match');
  const ifNoneMatch = call.header('if-none-match');
  if (ifMatch !== undefined ? !matches(ifMatch, object.etag) : changedSince(object, call.header('if-unmodified-since'))) {
    throw new S3Error('PreconditionFailed', { Condition: ifMatch === undefined ? 'If-Unmodified-Since' : 'If-Match' });
  }
  const since = call.header('if-modified-since');
  if (ifNoneMatch !== undefined ? matches(ifNoneMatch, object.etag) : since !== undefined && !changedSince(object, since)) {
    throw new S3Error('NotModified');
  }
}

/** Refuses a copy whose x-amz-copy-source-if-* do not hold. */
export function checkCopySource(call: Call, source: StoredObject): void {
  if (call.settings.conditionalWrites === 'ceph') return;
  const prefix = 'x-amz-copy-source-if-';
  const match = call.header(`${prefix}match`);
  const noneMatch = call.header(`${prefix}none-match`);
  const since = call.header(`${prefix}modified-since`);
  const failed = [
    [match === undefined ? changedSince(source, call.header(`${prefix}unmodified-since`)) : !matches(match, source.etag), 'match'],
    [noneMatch === undefined ? since !== undefined && !changedSince(source, since) : matches(noneMatch, source.etag), 'none-match'],
  ].find(([refused]) => refused);
  if (failed) throw new S3Error('PreconditionFailed', { Condition: `${prefix}${failed[1]}` });
}

/** True when a list of ETags, quoted or not, or `*` names this one. */
export function matches(list: string, etag: string): boolean {
  return list.split(',').some((item) => item.trim() === '*' || sameEtag(item.trim(), etag));
}

/** Compares ETags whether or not they are quoted. */
export function sameEtag(a: string, b: string): boolean {
  return a.replace(/^"|"$/g, '') === b.replace(/^"|"$/g, '');
}

/** True when the object is younger than an HTTP date, to the second; false when no date is given. */
function changedSince(object: StoredObject, date: string | undefined): boolean {
  return date !== undefined && Math.floor(object.lastModified.getTime() / 1000) > Math.floor(Date.parse(date) / 1000);
}
