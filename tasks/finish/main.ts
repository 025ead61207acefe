import { runStep } from '../../lib/step.ts';
import { finish } from './step.ts';

void runStep(finish);
