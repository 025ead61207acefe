import { owner } from './buckets.ts';
import type { Call } from './call.ts';
import { encoder, listPage } from './listing.ts';
import { findUpload } from './multipart.ts';
import { checksumElements } from './object-checksums.ts';
import { compareKeys, type Upload } from './state.ts';
import { element, elements } from './xml.ts';

const initiator = owner.replaceAll('Owner>', 'Initiator>');

/** ListParts: by number, page by page. */
export function listParts(call: Call): void {
  const upload = findUpload(call);
  const most = Math.min(call.number('max-parts') ?? call.settings.pageSize, call.settings.pageSize);
  const marker = call.number('part-number-marker') ?? 0;
  const parts = [...upload.parts.values()].sort((a, b) => a.number - b.number).filter((part) => part.number > marker);
  const page = parts.slice(0, most);
  const algorithm = upload.checksumAlgorithm?.toUpperCase();
  call.sendXml(
    element('ListPartsResult', [
      ...elements({ Bucket: call.bucketName, Key: upload.key, UploadId: upload.id }),
      initiator,
      owner,
      ...elements({
        StorageClass: upload.properties.storageClass,
        PartNumberMarker: marker,
        NextPartNumberMarker: page.at(-1)?.number ?? marker,
        MaxParts: most,
        IsTruncated: page.length < parts.length,
        ChecksumAlgorithm: algorithm,
        ChecksumType: upload.checksumType,
      }),
      ...page.map((part) =>
        element('Part', [
          ...elements({ PartNumber: part.number, LastModified: part.lastModified.toISOString(), ETag: part.etag, Size: part.size }),
          ...checksumElements(part.checksums),
        ]),
      ),
    ]),
  );
}

/** Open uploads by key, then by upload id: ids grow with time. Without a delimiter paging is by both markers. */
export function listMultipartUploads(call: Call): void {
  const { bucket, query } = call;
  const [prefix, delimiter, keyMarker, idMarker] = ['prefix', 'delimiter', 'key-marker', 'upload-id-marker'].map(
    (name) => query.get(name) ?? '',
  ) as [string, string, string, string];
  const most = Math.min(call.number('max-uploads') ?? call.settings.pageSize, call.settings.pageSize);
  const behind = [...bucket.uploads.values()]
    .filter(
      (upload) =>
        (call.settings.uploadsByKey ? upload.key === prefix : upload.key.startsWith(prefix)) && isBehind(upload, keyMarker, idMarker),
    )
    .sort((a, b) => compareKeys(a.key, b.key) || (a.id < b.id ? -1 : 1));
  const grouped = (upload: Upload): boolean => delimiter !== '' && upload.key.includes(delimiter, prefix.length);
  const commons = listPage(
    behind.filter(grouped).map((upload) => upload.key),
    { prefix, delimiter, after: '', most },
  ).entries;
  const alone = behind.filter((upload) => !grouped(upload));
  const page = alone.slice(0, most);
  const truncated = page.length < alone.length;
  const name = encoder(call);
  call.sendXml(
    element('ListMultipartUploadsResult', [
      ...elements({
        Bucket: bucket.name,
        KeyMarker: name(keyMarker),
        UploadIdMarker: idMarker,
        NextKeyMarker: truncated ? name(page.at(-1)?.key ?? '') : '',
        NextUploadIdMarker: truncated ? page.at(-1)?.id : '',
        Delimiter: delimiter ? name(delimiter) : undefined,
        Prefix: name(prefix),
        MaxUploads: most,
        EncodingType: query.get('encoding-type'),
        IsTruncated: truncated,
      }),
      ...page.map((upload) =>
        element('Upload', [
          ...elements({ Key: name(upload.key), UploadId: upload.id }),
          initiator,
          owner,
          ...elements({
            StorageClass: upload.properties.storageClass,
            Initiated: upload.initiated.toISOString(),
            ChecksumAlgorithm: upload.checksumAlgorithm?.toUpperCase(),
            ChecksumType: upload.checksumType,
          }),
        ]),
      ),
      ...commons.map((entry) => element('CommonPrefixes', [element('Prefix', name('prefix' in entry ? entry.prefix : entry.key))])),
    ]),
  );
}

/** Without an upload id marker only later keys follow; with one, later uploads of the same key too. */
function isBehind(upload: Upload, keyMarker: string, idMarker: string): boolean {
  const order = compareKeys(upload.key, keyMarker);
  return order > 0 || (order === 0 && idMarker !== '' && upload.id > idMarker) || keyMarker === '';
}
