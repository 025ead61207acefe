import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

/**
 * `npm run cluster-images -- COMMAND`: lays out what the Containerfile puts at /app, and the fake Hub beside it, then calls
 * COMMAND NAME FOLDER for each, which brings it into the cluster: for clusters that can pull no image.
 */
const root = join(import.meta.dirname, '../..');
const command = process.argv[2];
if (command === undefined) throw new Error('give the command that takes NAME and FOLDER');

const app = join(root, '.cache/images/modelferry');
const fakes = join(root, '.cache/images/fakes');
for (const folder of [app, fakes]) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
}
cpSync(join(root, 'dist'), app, { recursive: true });
await build({
  entryPoints: [join(root, 'test/fakes/hub-main.ts')],
  outfile: join(fakes, 'hub-main.cjs'),
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
});
for (const [name, folder] of [
  [process.env.TEST_IMAGE ?? 'localhost/modelferry:test', app],
  [process.env.TEST_HUB_IMAGE ?? 'localhost/modelferry-fakes:test', fakes],
] as const) {
  execFileSync(command, [name, folder], { cwd: root, stdio: 'inherit' });
}
