import { StepError } from '../../lib/errors.ts';

/** What is to be served, and where from. */
export interface Served {
  /** Name of the objects: a DNS label that starts with a letter, as KServe wants it. */
  name: string;
  /** With the slash behind it. */
  uri: string;
  bucket: string;
  prefix: string;
  /** Name under which clients ask for it. */
  modelName: string;
}

/** The model behind a URI. Throws `usage` when it is none, or no name can be made of it. */
export function servedOf(given: { modelUri: string; serviceName?: string | undefined; modelName?: string | undefined }): Served {
  const [, bucket = '', path = ''] = /^s3:\/\/([^/?#]+)\/([^?#]+)$/.exec(given.modelUri) ?? [];
  const prefix = path.replace(/\/+$/, '');
  if (prefix === '') {
    throw new StepError('usage', `failed to use --model-uri ${given.modelUri}: it is no s3://bucket/prefix/`, {
      hint: "give upload's result model-uri",
    });
  }
  if (given.modelUri.endsWith('.tar.zst')) {
    throw new StepError('usage', `failed to use --model-uri ${given.modelUri}: it is an archive, which no server reads`, {
      hint: 'unpack it into a workspace, upload it from there, and give the URI of that',
    });
  }
  const modelName = given.modelName ?? nameIn(prefix);
  const name = given.serviceName ?? labelOf(modelName);
  return { name, uri: `s3://${bucket}/${prefix}/`, bucket, prefix, modelName };
}

/** `model-data/tiny/0123` and `models/tiny`: the last part that is no version, as the default template has it. */
function nameIn(prefix: string): string {
  const parts = prefix.split('/');
  return (parts.length > 2 ? parts.at(-2) : parts.at(-1)) ?? prefix;
}

/** A DNS label (RFC 1123) with room for what KServe and Ray put behind it. */
function labelOf(name: string): string {
  const plain = name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+/, '');
  const label = /^[a-z]/.test(plain) ? plain : `model-${plain}`;
  return label.slice(0, 40).replace(/-+$/, '');
}
