import { runStep } from '../../lib/step.ts';
import { sync } from './step.ts';

void runStep(sync);
