import { createHash } from 'node:crypto';
import { basename, matchesGlob } from 'node:path';
import { bytesOf, type Content, type Files, gitBlobOid, sha256Of, sizeOf } from '../content.ts';

export type Gated = 'auto' | 'manual' | false;

export interface RepoOptions {
  id: string;
  /** Files of the first commit on `main`. */
  files: Files;
  /** Branches made from further commits on top of `main`, by name: the files given are added to or replace those of `main`. */
  revisions?: Record<string, Files>;
  /** Listed for everyone, files for tokens with access only; default false. */
  gated?: Gated;
  /** Refuses listings of a gated repository too, as the Hub did until 2024 and mirrors do; default false. */
  gateListing?: boolean;
  private?: boolean;
  /** Files over this many bytes are LFS files whatever .gitattributes says; default 10 MiB, as on the Hub. */
  lfsOver?: number;
  /** LFS files are Xet files too (xetHash in listings, X-Xet-Hash); the CDN redirect stays as it is. Default false. */
  xet?: boolean;
  /** Earlier ids, answered by a 307 to this one. */
  movedFrom?: string[];
}

export interface CommitMeta {
  id: string;
  title: string;
  date: string;
}

/** A file of a commit as the Hub describes it. */
export interface FileEntry {
  path: string;
  content: Content;
  size: number;
  /** sha1 of the git blob: of the file, or of its pointer when it is an LFS file. */
  oid: string;
  lfs?: { sha256: string; pointer: Buffer };
  xetHash?: string;
  lastCommit: CommitMeta;
}

/** A folder of a commit. */
export interface FolderEntry {
  path: string;
  oid: string;
  lastCommit: CommitMeta;
}

export interface Commit extends CommitMeta {
  files: Map<string, FileEntry>;
  folders: Map<string, FolderEntry>;
}

export interface Change {
  /** Default `main`; made from `main` when there is none. */
  branch?: string;
  /** Files added or replaced. */
  files?: Files;
  /** Paths taken away. */
  remove?: string[];
  message?: string;
}

/** A model repository on the fake Hub, with the object ids that git itself would give. */
export class FakeRepo {
  readonly id: string;
  /** What the API calls `_id`: 24 hex digits. */
  readonly objectId: string;
  readonly createdAt = new Date(firstCommit).toISOString();
  readonly movedFrom: readonly string[];
  gated: Gated;
  gateListing: boolean;
  private: boolean;
  readonly branches = new Map<string, string>();
  readonly tags = new Map<string, string>();
  readonly commits = new Map<string, Commit>();
  readonly #lfsOver: number;
  readonly #xet: boolean;

  constructor(options: RepoOptions) {
    this.id = options.id;
    this.objectId = sha1(`repo ${options.id}`).slice(0, 24);
    this.movedFrom = options.movedFrom ?? [];
    this.gated = options.gated ?? false;
    this.gateListing = options.gateListing ?? false;
    this.private = options.private ?? false;
    this.#lfsOver = options.lfsOver ?? 10 * 1024 * 1024;
    this.#xet = options.xet ?? false;
    this.commit({ files: options.files, message: 'Upload model' });
    for (const [branch, files] of Object.entries(options.revisions ?? {})) this.commit({ branch, files, message: `Upload ${branch}` });
  }

  /** Adds a commit on a branch; returns its sha. */
  commit({ branch = 'main', files = new Map(), remove = [], message = 'Update' }: Change): string {
    const parentSha = this.branches.get(branch) ?? this.branches.get('main');
    const parent = parentSha === undefined ? undefined : this.commits.get(parentSha);
    const date = new Date(firstCommit + this.commits.size * 60_000).toISOString();
    const meta = { id: '', title: message, date };
    const contents = new Map([...(parent?.files ?? [])].map(([path, entry]) => [path, entry.content]));
    for (const [path, content] of files) contents.set(path, content);
    for (const path of remove) if (!contents.delete(path)) throw new Error(`${this.id} has no file ${path} to remove`);
    const isLfs = this.#lfsRule(contents.get('.gitattributes'));
    const entries = new Map<string, FileEntry>();
    for (const path of [...contents.keys()].sort()) {
      const content = contents.get(path)!;
      const before = parent?.files.get(path);
      const same = before?.content === content && (before.lfs !== undefined) === isLfs(path, content);
      entries.set(path, same ? before : { path, content, ...this.#describe(content, isLfs(path, content)), lastCommit: meta });
    }
    const folders = new Map<string, FolderEntry>();
    const tree = writeTree('', [...entries.values()], folders);
    meta.id = gitCommit(tree, parentSha, date, message);
    this.commits.set(meta.id, { ...meta, files: entries, folders });
    this.branches.set(branch, meta.id);
    return meta.id;
  }

  /** Names the commit behind a branch, tag or sha by a tag. */
  tag(name: string, revision = 'main'): void {
    this.tags.set(name, this.sha(revision));
  }

  /** Takes a branch or tag away; its commits stay. */
  dropRevision(name: string): void {
    if (!this.branches.delete(name) && !this.tags.delete(name)) throw new Error(`${this.id} has no revision ${name}`);
  }

  /** The full commit sha behind a branch, tag or sha. */
  sha(revision = 'main'): string {
    const commit = this.find(revision);
    if (!commit) throw new Error(`${this.id} has no revision ${revision}`);
    return commit.id;
  }

  /** The files of a revision. */
  files(revision = 'main'): Files {
    return new Map([...this.commits.get(this.sha(revision))!.files].map(([path, entry]) => [path, entry.content]));
  }

  /** The commit behind a branch, a tag, HEAD or a full sha: short ones are unknown to the Hub. */
  find(revision: string): Commit | undefined {
    const sha = this.branches.get(revision === 'HEAD' ? 'main' : revision) ?? this.tags.get(revision) ?? revision;
    return this.commits.get(sha);
  }

  #lfsRule(attributes: Content | undefined): (path: string, content: Content) => boolean {
    const lines = attributes === undefined ? [] : bytesOf(attributes).toString().split('\n');
    const patterns = lines.filter((line) => line.includes('filter=lfs')).map((line) => line.split(/\s/)[0]!);
    return (path, content) =>
      sizeOf(content) > this.#lfsOver || patterns.some((pattern) => matchesGlob(pattern.includes('/') ? path : basename(path), pattern));
  }

  #describe(content: Content, lfs: boolean): Pick<FileEntry, 'size' | 'oid' | 'lfs' | 'xetHash'> {
    const size = sizeOf(content);
    if (!lfs) return { size, oid: gitBlobOid(content) };
    const sha256 = sha256Of(content);
    // The text is the pointer file of https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    const pointer = Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${size}\n`);
    // The real one is a Merkle hash of the file's chunks: all that clients see of it here is a hash that is not the sha256.
    const xetHash = this.#xet ? { xetHash: createHash('sha256').update(`xet ${sha256}`).digest('hex') } : {};
    return { size, oid: gitBlobOid(pointer), lfs: { sha256, pointer }, ...xetHash };
  }
}

/** So that equal repositories get equal commit ids. */
const firstCommit = Date.UTC(2026, 0, 2, 3, 4, 5);

/** Writes the git tree of one folder, notes the folders below it, returns its id. */
function writeTree(folder: string, files: FileEntry[], folders: Map<string, FolderEntry>): string {
  const rows: { name: string; sortKey: string; mode: string; oid: string }[] = [];
  const below = new Map<string, FileEntry[]>();
  for (const file of files) {
    const rest = file.path.slice(folder.length);
    const slash = rest.indexOf('/');
    if (slash < 0) rows.push({ name: rest, sortKey: rest, mode: '100644', oid: file.oid });
    else below.set(rest.slice(0, slash), [...(below.get(rest.slice(0, slash)) ?? []), file]);
  }
  for (const [name, inside] of below) {
    const path = folder + name;
    const oid = writeTree(`${path}/`, inside, folders);
    const lastCommit = inside.map((file) => file.lastCommit).reduce((a, b) => (b.date > a.date ? b : a));
    if (path !== '') folders.set(path, { path, oid, lastCommit });
    rows.push({ name, sortKey: `${name}/`, mode: '40000', oid });
  }
  rows.sort((a, b) => Buffer.compare(Buffer.from(a.sortKey), Buffer.from(b.sortKey)));
  const body = Buffer.concat(rows.flatMap((row) => [Buffer.from(`${row.mode} ${row.name}\0`), Buffer.from(row.oid, 'hex')]));
  return sha1(Buffer.concat([Buffer.from(`tree ${body.length}\0`), body]));
}

function gitCommit(tree: string, parent: string | undefined, date: string, message: string): string {
  const who = `acme <acme@users.noreply.huggingface.co> ${Date.parse(date) / 1000} +0000`;
  const parentLine = parent ? `parent ${parent}\n` : '';
  const body = `tree ${tree}\n${parentLine}author ${who}\ncommitter ${who}\n\n${message}\n`;
  return sha1(`commit ${Buffer.byteLength(body)}\0${body}`);
}

function sha1(data: string | Buffer): string {
  return createHash('sha1').update(data).digest('hex');
}
