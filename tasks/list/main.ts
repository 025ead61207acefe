import { runStep } from '../../lib/step.ts';
import { list } from './step.ts';

void runStep(list);
