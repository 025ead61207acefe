import { runStep } from '../../lib/step.ts';
import { verify } from './step.ts';

void runStep(verify);
