import { runStep } from '../../lib/step.ts';
import { deleteModel } from './step.ts';

void runStep(deleteModel);
