import { runStep } from '../../lib/step.ts';
import { bootstrap } from './step.ts';

void runStep(bootstrap);
