import type { Step } from '../lib/define-step.ts';
import { bootstrap } from './bootstrap/step.ts';
import { compress } from './compress/step.ts';
import { deleteModel } from './delete/step.ts';
import { doctor } from './doctor/step.ts';
import { download } from './download/step.ts';
import { fetch } from './fetch/step.ts';
import { finish } from './finish/step.ts';
import { importModel } from './import/step.ts';
import { lint } from './lint/step.ts';
import { list } from './list/step.ts';
import { plan } from './plan/step.ts';
import { prune } from './prune/step.ts';
import { register } from './register-in-model-registry/step.ts';
import { serve } from './serve/step.ts';
import { sync } from './sync/step.ts';
import { upload } from './upload/step.ts';
import { verify } from './verify/step.ts';

/** The steps of the pipelines, in their order: one container, one Task, one template each. */
export const steps: readonly Step[] = [download, compress, upload, register];

/** What the engines have a template for: the steps, and what a pipeline may do besides. */
export const wired: readonly Step[] = [...steps, sync, plan, finish, importModel, bootstrap, serve, fetch, verify, prune];

/** Every command. */
export const commands: readonly Step[] = [...wired, doctor, list, deleteModel, lint];
