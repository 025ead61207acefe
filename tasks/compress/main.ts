import { runStep } from '../../lib/step.ts';
import { compress } from './step.ts';

void runStep(compress);
