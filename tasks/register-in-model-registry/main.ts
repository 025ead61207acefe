import { runStep } from '../../lib/step.ts';
import { register } from './step.ts';

void runStep(register);
