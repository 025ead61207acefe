import { runStep } from '../../lib/step.ts';
import { prune } from './step.ts';

void runStep(prune);
