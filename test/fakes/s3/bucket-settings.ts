import { receiveXml } from './body.ts';
import { type Call, expectRoot, requireDigest } from './call.ts';
import { S3Error } from './errors.ts';
import type { SettingVerb } from './options.ts';
import { all, element, textOf, type XmlNode } from './xml.ts';

interface Setting {
  subresource: string;
  root: string;
  /** The error where it was never set. */
  absent: string;
  /** Refuses what S3 would refuse. */
  check: (root: XmlNode, call: Call) => void;
}

const settings: Record<'BucketLifecycleConfiguration' | 'BucketEncryption' | 'PublicAccessBlock', Setting> = {
  BucketLifecycleConfiguration: {
    subresource: 'lifecycle',
    root: 'LifecycleConfiguration',
    absent: 'NoSuchLifecycleConfiguration',
    check: checkLifecycle,
  },
  BucketEncryption: {
    subresource: 'encryption',
    root: 'ServerSideEncryptionConfiguration',
    absent: 'ServerSideEncryptionConfigurationNotFoundError',
    check: (root) => {
      if (all(root, 'Rule').length !== 1) throw new S3Error('MalformedXML');
    },
  },
  PublicAccessBlock: {
    subresource: 'publicAccessBlock',
    root: 'PublicAccessBlockConfiguration',
    absent: 'NoSuchPublicAccessBlockConfiguration',
    check: () => {},
  },
};

/** The operation on a setting that a bucket's request names; undefined when it names none. */
export function settingVerb(method: string | undefined, query: Map<string, string>): SettingVerb | undefined {
  const [name] = Object.entries(settings).find(([, { subresource }]) => query.has(subresource)) ?? [];
  const verb = { GET: 'Get', PUT: 'Put', DELETE: 'Delete' }[method ?? ''];
  return name === undefined || verb === undefined ? undefined : (`${verb}${name}` as SettingVerb);
}

/** Get, put and delete of each setting: kept as it was put, and answered so. */
export const settingOperations = Object.fromEntries(
  Object.entries(settings).flatMap(([name, setting]) => [
    [`Get${name}`, (call: Call) => get(call, setting)],
    [`Put${name}`, (call: Call) => put(call, setting)],
    [
      `Delete${name}`,
      (call: Call) => {
        call.bucket.settings.delete(setting.subresource);
        call.send(204);
      },
    ],
  ]),
) as Record<SettingVerb, (call: Call) => void | Promise<void>>;

function get(call: Call, { subresource, absent }: Setting): void {
  const node = call.bucket.settings.get(subresource);
  if (node === undefined) throw new S3Error(absent, { status: 404, BucketName: call.bucketName });
  call.sendXml(toXml(node));
}

async function put(call: Call, { subresource, root: name, check }: Setting): Promise<void> {
  const { bucket } = call;
  requireDigest(call);
  const root = expectRoot(await receiveXml(call), name);
  check(root, call);
  bucket.settings.set(subresource, root);
  call.send(200);
}

/** Up to 1,000 rules with different ids, each with a status, a filter and an action (API reference, PutBucketLifecycleConfiguration). */
function checkLifecycle(root: XmlNode, call: Call): void {
  const rules = all(root, 'Rule');
  const ids = rules.map((rule) => textOf(rule, 'ID') ?? '');
  const actions = /^(Expiration|NoncurrentVersionExpiration|AbortIncompleteMultipartUpload|Transition|NoncurrentVersionTransition)$/;
  const wrong = rules.some((rule) => {
    const status = textOf(rule, 'Status');
    const filtered = all(rule, 'Filter').length + all(rule, 'Prefix').length === 1;
    const aborts = all(rule, 'AbortIncompleteMultipartUpload').length > 0;
    if (aborts && call.settings.abortRules === 'refused') return true;
    return !filtered || (status !== 'Enabled' && status !== 'Disabled') || !rule.children.some((child) => actions.test(child.name));
  });
  if (new Set(rules.map((rule) => all(rule, 'Filter').length)).size > 1) {
    throw new S3Error('InvalidRequest', { message: 'Filter element can only be used in Lifecycle V2.' });
  }
  if (rules.length === 0 || wrong) throw new S3Error('MalformedXML');
  if (new Set(ids).size !== ids.length)
    throw new S3Error('InvalidArgument', { message: 'Rule ID must be unique. Found same ID for more than one rule' });
}

function toXml({ name, text, children }: XmlNode): string {
  return element(name, children.length > 0 ? children.map(toXml) : text);
}
