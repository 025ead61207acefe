import type { Step } from '../lib/step.ts';
import { compress } from './compress/step.ts';
import { download } from './download/step.ts';
import { register } from './register-in-model-registry/step.ts';
import { upload } from './upload/step.ts';

/** Every step, in the order of the pipeline: for the one executable, the renderer and the tests. */
export const steps: readonly Step[] = [download, compress, upload, register];
