import { readdirSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Whose secret it is: that server alone is sent it, in the header made for it. */
export type Owner = 'hub' | 's3' | 'registry' | 'pod' | 'nobody';

/** All secrets that programs and servers of this test file were given, and whose they are. */
const known = new Map<string, Set<Owner>>();

/** The header in which an owner is sent its secret. */
const headerOf: Record<Owner, string> = {
  hub: 'authorization',
  registry: 'authorization',
  pod: 'authorization',
  s3: 'x-amz-security-token',
  nobody: '',
};

/** Whether servers look into what they are sent: where time is measured, they do not. */
export const search = { requests: true };

/** From now on that secret is looked for in all that programs write and send. Short ones stand in too many words. */
export function keepSecret(secret: string, owner: Owner): void {
  if (secret.length >= 6) known.set(secret, (known.get(secret) ?? new Set()).add(owner));
}

/** The secrets among a program's environment: what must stand in nothing that it writes. */
export function secretsOf(env: Readonly<Record<string, string>>): string[] {
  const found = Object.entries(env).flatMap(([name, value]) => {
    if (/^https?_proxy$/i.test(name)) return URL.canParse(value) ? [{ name, value: decodeURIComponent(new URL(value).password) }] : [];
    if (/(TOKEN|SECRET_ACCESS_KEY|PASSWORD)$/.test(name)) return [{ name, value }];
    return secretFiles({ [name]: value }).map((file) => ({ name: file, value: textOf(file).trim() }));
  });
  for (const { name, value } of found) keepSecret(value, ownerOf(name));
  return [...new Set(found.map(({ value }) => value).filter((value) => value.length >= 6))];
}

function ownerOf(name: string): Owner {
  if (/HF_|HUGGING|HUB_/.test(name)) return 'hub';
  if (/MODEL_REGISTRY|KF_PIPELINES/.test(name)) return 'registry';
  if (/AWS_CONTAINER/.test(name)) return 'pod';
  return /AWS|S3/.test(name) ? 's3' : 'nobody';
}

/** Files that the user keeps secrets in, by the environment that names them. */
function secretFiles(env: Readonly<Record<string, string>>): string[] {
  return Object.entries(env).flatMap(([name, value]) => {
    if (/(TOKEN|SECRET_ACCESS_KEY)_FILE$|TOKEN_PATH$/.test(name)) return [value];
    if (name !== 'S3_CREDENTIALS_DIR') return [];
    return ['AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'S3_SECRET_ACCESS_KEY', 'HF_TOKEN'].map((key) => join(value, key));
  });
}

/** The secrets that stand in a text: as they are, percent-encoded, in hex, or as base64 at any offset. Only their first characters are told. */
export function leaksIn(text: string, secrets: readonly string[]): string[] {
  return secrets.flatMap((secret) =>
    formsOf(secret)
      .filter(({ form }) => text.includes(form))
      .map(({ how }) => `${secret.slice(0, 3)}... (${how})`),
  );
}

/** The same over what a request brings to a server: a secret is at home in one header of its owner alone. */
export function leaksInRequest(
  { method, url, headers }: { method: string; url: string; headers: Readonly<Record<string, unknown>> },
  body: string,
  server: Owner,
): string[] {
  const found = [...known].flatMap(([secret, owners]) => {
    const home = owners.has(server) ? headerOf[server] : '';
    const others = Object.entries(headers).filter(([name]) => name !== home);
    return leaksIn(`${url}\n${JSON.stringify(others)}\n${body}`, [secret]);
  });
  return found.map((leak) => `${method} ${url.slice(0, 100)} of the ${server} brings ${leak}`);
}

/** The largest file that is read: what is larger is weights. */
const maxFile = 1024 ** 2;
const maxFiles = 500;

/** The same over the files in the folders that a program was given, below the folder for temporary files: workspace, store, results, logs. */
export function leaksInFiles(argv: readonly string[], env: Readonly<Record<string, string>>, cwd?: string): string[] {
  const secrets = secretsOf(env);
  if (secrets.length === 0) return [];
  const keptBy = new Set(secretFiles(env));
  const words = [...Object.values(env), ...argv.flatMap((word) => [word, word.slice(word.indexOf('=') + 1)]), cwd ?? ''];
  const roots = [...new Set(words)].filter((word) => word.startsWith(join(tmpdir(), '/')));
  return filesBelow(roots)
    .filter((file) => !keptBy.has(file))
    .flatMap((file) => leaksIn(`${file}\n${textOf(file)}`, secrets).map((leak) => `${file} holds ${leak}`));
}

function filesBelow(roots: readonly string[]): string[] {
  const found = new Set<string>();
  const open = [...roots];
  for (let path = open.pop(); path !== undefined && found.size < maxFiles; path = open.pop()) {
    const info = statSync(path, { throwIfNoEntry: false });
    if (info?.isDirectory()) for (const name of namesIn(path)) open.push(join(path, name));
    else if (info?.isFile() && info.size <= maxFile) found.add(path);
  }
  return [...found];
}

/** A folder may go while it is looked at. */
function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

const cache = new Map<string, { how: string; form: string }[]>();

function formsOf(secret: string): { how: string; form: string }[] {
  const cached = cache.get(secret);
  if (cached !== undefined) return cached;
  const forms = [
    { how: 'plain', form: secret },
    { how: 'percent-encoded', form: encodeURIComponent(secret) },
    { how: 'in JSON', form: JSON.stringify(secret).slice(1, -1) },
    { how: 'hex', form: Buffer.from(secret).toString('hex') },
  ];
  // Three ways to lie in base64; the characters at its ends depend on what is beside it.
  for (let offset = 0; offset < 3; offset += 1) {
    const form = Buffer.concat([Buffer.alloc(offset), Buffer.from(secret)]).toString('base64url');
    const inner = form.slice(offset === 0 ? 0 : offset + 1, -3);
    for (const [how, text] of [
      ['base64url', inner],
      ['base64', inner.replaceAll('-', '+').replaceAll('_', '/')],
    ] as const) {
      if (text.length >= 6) forms.push({ how, form: text });
    }
  }
  const each = [...new Map(forms.toReversed().map((form) => [form.form, form])).values()];
  cache.set(secret, each);
  return each;
}
