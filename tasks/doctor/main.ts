import { runStep } from '../../lib/step.ts';
import { doctor } from './step.ts';

void runStep(doctor);
