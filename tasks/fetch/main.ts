import { runStep } from '../../lib/step.ts';
import { fetch } from './step.ts';

void runStep(fetch);
