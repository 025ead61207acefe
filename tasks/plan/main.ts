import { runStep } from '../../lib/step.ts';
import { plan } from './step.ts';

void runStep(plan);
