/**
 * Makes the images for the cluster tests where none can be built or pulled: calls `COMMAND NAME FOLDER` for each, FOLDER becoming /app.
 *   npm run cluster-images -- COMMAND
 * Their names are those of TEST_IMAGE and TEST_HUB_IMAGE, where these are set.
 */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { run } from './kubectl.ts';

const root = join(import.meta.dirname, '../..');
const dist = join(root, 'dist');
const withFakes = join(root, '.cache/fakes');
const [command] = process.argv.slice(2);
const { TEST_IMAGE = 'localhost/modelferry:test', TEST_HUB_IMAGE = 'localhost/modelferry-fakes:test' } = process.env;
if (command === undefined) throw new Error('usage: npm run cluster-images -- COMMAND');

rmSync(withFakes, { recursive: true, force: true });
cpSync(dist, withFakes, { recursive: true });
await build({
  entryPoints: [join(root, 'test/fakes/hub-main.ts')],
  outfile: join(withFakes, 'fake-hub.cjs'),
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
});
console.log((await run(command, [TEST_IMAGE, dist])).trim());
console.log((await run(command, [TEST_HUB_IMAGE, withFakes])).trim());
