import { readFileSync } from 'node:fs';
import { chmod, rm } from 'node:fs/promises';
import { build } from 'esbuild';
import { commands } from './tasks/index.ts';

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };

/** One file per program, with all it needs inside: the image holds these and Node. */
const programs = [
  { name: 'modelferry', entry: 'tasks/main.ts' },
  ...commands.map(({ name }) => ({ name, entry: `tasks/${name}/main.ts` })),
];

/** The code of compress's threads, as text inside the programs that have compress inside: a program stays one file. */
const worker = await build({
  entryPoints: ['tasks/compress/worker.ts'],
  write: false,
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  minify: true,
});

await rm('dist', { recursive: true, force: true });
await Promise.all(
  programs.map(({ name, entry }) =>
    build({
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
      banner: { js: "#!/usr/bin/env node\nconst moduleUrl=require('node:url').pathToFileURL(__filename).href;" },
      define: {
        MODELFERRY_VERSION: JSON.stringify(version),
        COMPRESS_WORKER: JSON.stringify(worker.outputFiles[0]?.text),
        'import.meta.url': 'moduleUrl',
      },
    }),
  ),
);
await Promise.all(programs.map(({ name }) => chmod(`dist/${name}.cjs`, 0o755)));
