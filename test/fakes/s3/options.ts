/** What a bucket is told as a whole document, in the subresource of that name. */
export type SettingVerb = `${'Get' | 'Put' | 'Delete'}${'BucketLifecycleConfiguration' | 'BucketEncryption' | 'PublicAccessBlock'}`;

/** The operations of the S3 API that the server knows, named as AWS names them. */
export type Verb =
  | 'ListBuckets'
  | 'CreateBucket'
  | 'HeadBucket'
  | 'DeleteBucket'
  | 'GetBucketLocation'
  | 'GetBucketVersioning'
  | 'PutBucketVersioning'
  | SettingVerb
  | 'ListObjects'
  | 'ListObjectsV2'
  | 'ListObjectVersions'
  | 'PutObject'
  | 'GetObject'
  | 'HeadObject'
  | 'DeleteObject'
  | 'DeleteObjects'
  | 'CopyObject'
  | 'GetObjectTagging'
  | 'PutObjectTagging'
  | 'DeleteObjectTagging'
  | 'CreateMultipartUpload'
  | 'UploadPart'
  | 'UploadPartCopy'
  | 'CompleteMultipartUpload'
  | 'AbortMultipartUpload'
  | 'ListMultipartUploads'
  | 'ListParts';

export interface FakeS3Options {
  /** Secret by access key id; default: testCredentials alone. Session tokens are accepted as they come. */
  credentials?: Record<string, string>;
  /** Lets unsigned requests in; default false: they get 403 AccessDenied. */
  anonymous?: boolean;
  /** Where the buckets are. When given, a signature for another region is refused (AuthorizationHeaderMalformed); default: any is accepted. */
  region?: string;
  /** Hosts named `<bucket>.<domain>` are read as virtual host style; default `localhost`. A host that begins with the name of an existing bucket is, too. */
  domain?: string;
  /** When given, requests signed further from now than that many ms are refused (RequestTimeTooSkewed). */
  maxClockSkewMs?: number;
  /** How far this server's clock is ahead of ours, in ms: in its Date and in what it thinks of signatures. */
  clockAheadMs?: number;
  /** An object shows in listings only so many ms after it was put, as with stores whose listings are eventual; default 0. */
  listsLateMs?: number;
  /**
   * If-Match and If-None-Match on writes: kept (default), not known, or answered 501 NotImplemented. `ceph`: as Ceph 16 was seen to do it: an
   * ETag in quotes never matches, deletes and copies know no conditions, and a completion's answer has no ETag.
   */
  conditionalWrites?: 'yes' | 'ignored' | 'refused' | 'ceph';
  /**
   * x-amz-checksum-*: verified and kept (default), or unknown to an old server, that is `ignored`: neither checked nor kept, and `refused`:
   * aws-chunked trailers are answered 501 NotImplemented besides. Old servers also want Content-MD5 on DeleteObjects.
   */
  checksums?: 'verify' | 'ignored' | 'refused';
  /** Answers a repeated CompleteMultipartUpload like the first one, as AWS does (default), or with NoSuchUpload, as MinIO does. */
  completeAgain?: boolean;
  /** Lists unfinished uploads only where the prefix is a whole key, as MinIO does; default false. */
  uploadsByKey?: boolean;
  /** Smallest part before the last one, in bytes; default 5 MiB. */
  minPartSize?: number;
  /** Largest body of PutObject and UploadPart, and largest source of CopyObject and UploadPartCopy, in bytes; default 5 GiB. */
  maxPutSize?: number;
  /** Most entries on one page of any listing; default 1000. */
  pageSize?: number;
  /** Refuses with 403 AccessDenied what it says true to. Key is empty for what is not about one object; DeleteObjects asks as DeleteObject, key by key. */
  deny?: (verb: Verb, key: string, bucket: string) => boolean;
  /** Operations that this server does not have: 501 NotImplemented. */
  notImplemented?: readonly Verb[];
  /** Operations that it answers 200, and does nothing. */
  pretends?: readonly Verb[];
  /** Lifecycle rules that end unfinished uploads: taken (default), or refused with MalformedXML, as MinIO does. */
  abortRules?: 'yes' | 'refused';
  /** Folder where bodies lie instead of in memory (made and emptied by the server; nothing survives it). */
  dir?: string;
  /** Keeps sizes and digests, not bytes: bodies over 500,000 bytes are read back as zeros. */
  discard?: boolean;
  /** For benchmarks: no signature, digest or checksum is verified, and ETags of bodies over 500,000 bytes are made up. */
  fast?: boolean;
}

/** The key pair a FakeS3 knows unless told otherwise. */
export const testCredentials = { accessKeyId: 'testaccess', secretAccessKey: 'testsecret123' };
