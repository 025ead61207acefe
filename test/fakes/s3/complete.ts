import { createHash } from 'node:crypto';
import { receiveXml, wrongChecksum } from './body.ts';
import { type Call, expectRoot } from './call.ts';
import { algorithms, type Checksums, combineCrcs, compositeChecksum } from './checksums.ts';
import { checkWrite, sameEtag } from './conditions.ts';
import { joinContents } from './content.ts';
import { S3Error } from './errors.ts';
import { endUpload, findUpload } from './multipart.ts';
import { checksumElements } from './object-checksums.ts';
import { encryptionHeaders, versionHeaders } from './properties.ts';
import { type Part, StoredObject, type Upload } from './state.ts';
import { all, element, elements, textOf, type XmlNode } from './xml.ts';

/** CompleteMultipartUpload: all checks before anything changes; the parts become one object at once. */
export async function completeMultipartUpload(call: Call): Promise<void> {
  const { bucket } = call;
  const root = expectRoot(await receiveXml(call, { ofObject: true }), 'CompleteMultipartUpload');
  const before = bucket.completed.get(call.query.get('uploadId') ?? '');
  if (before && call.settings.completeAgain && before === bucket.version(call.key, before.versionId)) return answer(call, before);
  const upload = findUpload(call);
  const parts = chooseParts(call, upload, all(root, 'Part'));
  const size = parts.reduce((sum, part) => sum + part.size, 0);
  const promised = call.header('x-amz-mp-object-size');
  if (promised !== undefined && Number(promised) !== size) {
    throw new S3Error('InvalidRequest', {
      message: `The provided 'x-amz-mp-object-size' header value ${promised} does not match what was computed: ${size}`,
    });
  }
  const checksums = checkWhole(call, upload, parts);
  checkWrite(call);
  const etag = `"${createHash('md5')
    .update(Buffer.concat(parts.map((part) => Buffer.from(part.etag.slice(1, -1), 'hex'))))
    .digest('hex')}-${parts.length}"`;
  const object = new StoredObject(call.key, joinContents(parts.map((part) => part.content)), etag, upload.properties, {
    checksums,
    checksumType: upload.checksumType,
    parts: parts.map(({ content: _, ...part }) => part),
  });
  endUpload(call, upload, parts);
  bucket.add(object);
  bucket.completed.set(upload.id, object);
  answer(call, object);
}

function answer(call: Call, object: StoredObject): void {
  call.sendXml(
    element('CompleteMultipartUploadResult', [
      ...elements({
        Location: `http://${call.request.headers.host ?? ''}/${call.bucketName}/${encodeURIComponent(call.key)}`,
        Bucket: call.bucketName,
        Key: call.key,
        ...(call.settings.conditionalWrites === 'ceph' ? {} : { ETag: object.etag }),
      }),
      ...checksumElements(object.checksums, object.checksumType),
    ]),
    { ...encryptionHeaders(object), ...versionHeaders(call, object) },
  );
}

/** The parts that the request lists, once each is what it says. */
function chooseParts(call: Call, upload: Upload, nodes: XmlNode[]): Part[] {
  if (nodes.length === 0) throw new S3Error('MalformedXML');
  const numbers = nodes.map((node) => Number(textOf(node, 'PartNumber')));
  if (numbers.some((number, index) => index > 0 && number <= numbers[index - 1]!))
    throw new S3Error('InvalidPartOrder', { UploadId: upload.id });
  const parts = nodes.map((node, index) => choosePart(call, upload, numbers[index]!, node));
  parts.slice(0, -1).forEach((part) => {
    if (part.size >= call.settings.minPartSize) return;
    throw new S3Error('EntityTooSmall', {
      ProposedSize: part.size,
      MinSizeAllowed: call.settings.minPartSize,
      PartNumber: part.number,
      ETag: part.etag.slice(1, -1),
    });
  });
  return parts;
}

/**
 * A part whose upload named no checksum algorithm, but that was sent with a checksum, has to be listed with it: so AWS treats clients that add
 * checksums on their own (https://github.com/aws/aws-sdk-java-v2/issues/6518).
 */
function choosePart(call: Call, upload: Upload, number: number, node: XmlNode): Part {
  const part = upload.parts.get(number);
  const etag = textOf(node, 'ETag');
  if (etag === undefined) throw new S3Error('MalformedXML');
  const invalid = new S3Error('InvalidPart', { UploadId: upload.id, PartNumber: number, ETag: etag });
  if (!part || !sameEtag(etag, part.etag)) throw invalid;
  if (call.settings.checksums !== 'verify') return part;
  for (const algorithm of algorithms) {
    const given = textOf(node, `Checksum${algorithm.toUpperCase()}`);
    const kept = part.checksums[algorithm];
    if (given === undefined && algorithm === upload.checksumAlgorithm && upload.checksumType === 'COMPOSITE') {
      throw new S3Error('InvalidRequest', {
        message: `The upload was created using a ${algorithm} checksum. The complete request must include the checksum for each part. It was missing for part ${number} in the request.`,
      });
    }
    const unasked = given === undefined && kept !== undefined && upload.checksumAlgorithm === undefined;
    if (unasked || (given !== undefined && given !== kept)) throw invalid;
  }
  return part;
}

/** The whole object's checksum, compared with the one that the request carries. */
function checkWhole(call: Call, upload: Upload, parts: Part[]): Checksums {
  const { checksumAlgorithm: algorithm, checksumType } = upload;
  if (!algorithm) return {};
  const asked = call.header('x-amz-checksum-type')?.toUpperCase();
  if (asked !== undefined && asked !== checksumType) {
    throw new S3Error('InvalidRequest', {
      message: `The upload was created using the ${checksumType} checksum mode. The complete request must use the same checksum mode.`,
    });
  }
  const digests = parts.flatMap((part) =>
    part.checksums[algorithm] === undefined ? [] : [{ digest: part.checksums[algorithm], size: part.size }],
  );
  if (digests.length < parts.length) return {};
  const whole =
    checksumType === 'COMPOSITE'
      ? compositeChecksum(
          algorithm,
          digests.map(({ digest }) => digest),
        )
      : combineCrcs(algorithm, digests);
  const given = call.header(`x-amz-checksum-${algorithm}`);
  if (given !== undefined && given !== whole) throw wrongChecksum(algorithm);
  return { [algorithm]: whole };
}
