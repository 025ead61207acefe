import { runStep } from '../../lib/step.ts';
import { upload } from './step.ts';

void runStep(upload);
