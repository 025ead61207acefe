import { runStep } from '../../lib/step.ts';
import { lint } from './step.ts';

void runStep(lint);
