import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { commands } from './tasks/index.ts';

const { version, engines } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string; engines: { node: string } };

/** Code that is true on a Node that is older than we need, and the end of a message about it, to stand in a template literal. */
const older = (() => {
  const needed = engines.node.replace('>=', '');
  const [major, minor] = needed.split('.');
  const test = `const[major,minor]=process.versions.node.split('.');return major<${major}||major==${major}&&minor<${minor}`;
  return { test: `(()=>{${test}})()`, text: `needs Node ${needed} or newer, and this is \${process.versions.node} (\${process.execPath})` };
})();

/** The first thing in a program: an older Node is told so in one line, instead of failing at whatever it lacks. */
const nodeCheck = `if(${older.test}){process.stderr.write(\`failed to start: modelferry ${older.text}\\n\`);process.exit(2)}`;

/** What is really inside the programs, by what the bundler read (CycloneDX 1.6, the JSON form; no times, so that equal builds give equal bytes). */
function writeSbom(inputs: readonly string[]): void {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, Locked> };
  // The innermost package that a file lies in.
  const folders = new Set(inputs.flatMap((path) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []));
  const components = [...folders].sort().map((folder) => {
    const { version: of = '', license, integrity = '' } = packages[folder] ?? {};
    const name = folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const [algorithm, digest = ''] = integrity.split('-');
    return {
      type: 'library',
      name,
      version: of,
      purl: `pkg:npm/${name.replace('@', '%40')}@${of}`,
      ...(license === undefined ? {} : { licenses: [/ (OR|AND) /.test(license) ? { expression: license } : { license: { id: license } }] }),
      ...(algorithm === 'sha512' ? { hashes: [{ alg: 'SHA-512', content: Buffer.from(digest, 'base64').toString('hex') }] } : {}),
    };
  });
  const component = { type: 'application', name: 'modelferry', version, licenses: [{ license: { id: 'Apache-2.0' } }] };
  const sbom = { bomFormat: 'CycloneDX', specVersion: '1.6', version: 1, metadata: { component }, components };
  writeFileSync('dist/sbom.cdx.json', `${JSON.stringify(sbom, null, 2)}\n`);
}

interface Locked {
  version?: string;
  license?: string;
  integrity?: string;
}

/** One file per program, with all it needs inside: the image holds these and Node. */
const programs = [
  { name: 'modelferry', entry: 'tasks/main.ts' },
  ...commands.map(({ name }) => ({ name, entry: `tasks/${name}/main.ts` })),
];

/** The code of a thread, as text inside the programs: a program stays one file. */
async function threadCode(entry: string): Promise<string> {
  const options = { write: false, bundle: true, platform: 'node', target: 'node24', format: 'cjs', minify: true } as const;
  const { outputFiles } = await build({ entryPoints: [entry], ...options });
  return JSON.stringify(outputFiles[0]?.text);
}

const threads = {
  COMPRESS_WORKER: await threadCode('lib/compression/worker.ts'),
  HASH_WORKER: await threadCode('lib/hashing/worker.ts'),
};

await rm('dist', { recursive: true, force: true });
const built = await Promise.all(
  programs.map(({ name, entry }) =>
    build({
      metafile: true,
      entryPoints: [{ in: entry, out: name }],
      outdir: 'dist',
      outExtension: { '.js': '.cjs' },
      bundle: true,
      platform: 'node',
      target: 'node24',
      format: 'cjs',
      minify: true,
      // The ES modules of packages, where they have them: what is not used is then left out.
      mainFields: ['module', 'main'],
      // Error class names are data: clients tell errors apart by them.
      keepNames: true,
      legalComments: 'linked',
      // yargs asks for import.meta.url, which a CommonJS file does not have.
      banner: { js: `#!/usr/bin/env node\n${nodeCheck}const moduleUrl=require('node:url').pathToFileURL(__filename).href;` },
      define: {
        MODELFERRY_VERSION: JSON.stringify(version),
        ...threads,
        'import.meta.url': 'moduleUrl',
      },
    }),
  ),
);
/** The steps as functions, for Node programs: one ES module, and its types. */
const api = await build({
  metafile: true,
  entryPoints: [{ in: 'tasks/api.ts', out: 'steps' }],
  outdir: 'dist/node',
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  minify: true,
  mainFields: ['module', 'main'],
  keepNames: true,
  legalComments: 'linked',
  // CommonJS packages inside ask for Node's modules by require.
  banner: { js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);" },
  define: { MODELFERRY_VERSION: JSON.stringify(version), ...threads },
});
// A module of its own: what is imported by name, and an older Node does not have, fails before any line of the importing module runs.
const { exports: functions = [] } = api.metafile.outputs['dist/node/steps.js'] ?? {};
writeFileSync(
  'dist/node/api.js',
  `if(${older.test})throw new Error(\`failed to load modelferry: it ${older.text}\`);
export const { ${functions.join(', ')} } = await import('./steps.js');
`,
);
await declareTypes();

await Promise.all(programs.map(({ name }) => chmod(`dist/${name}.cjs`, 0o755)));
writeSbom([...built, api].flatMap(({ metafile }) => Object.keys(metafile.inputs)));

/** The types of tasks/api.ts as one file: what it says itself, then what the files declare that it exports all of. They import only from each other. */
async function declareTypes(): Promise<void> {
  const outDir = await mkdtemp(join(tmpdir(), 'types-'));
  try {
    const root = process.cwd();
    const { compilerOptions } = JSON.parse(readFileSync('tsconfig.json', 'utf8')) as { compilerOptions: object };
    const emitting = { noEmit: false, declaration: true, emitDeclarationOnly: true, rootDir: root, outDir };
    const config = {
      compilerOptions: { ...compilerOptions, ...emitting, typeRoots: [join(root, 'node_modules/@types')] },
      files: [join(root, 'tasks/api.ts')],
    };
    writeFileSync(join(outDir, 'tsconfig.json'), JSON.stringify(config));
    execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', outDir], { stdio: 'inherit' });
    const index = readFileSync(join(outDir, 'tasks/api.d.ts'), 'utf8');
    const joined = index.replaceAll(/^export \* from '(.*)\.ts';\n/gm, (_, path: string) =>
      readFileSync(join(outDir, 'tasks', `${path}.d.ts`), 'utf8').replaceAll(/^import .*\n/gm, ''),
    );
    writeFileSync('dist/node/api.d.ts', joined);
  } finally {
    await rm(outDir, { recursive: true });
  }
}
