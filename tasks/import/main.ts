import { runStep } from '../../lib/step.ts';
import { importModel } from './step.ts';

void runStep(importModel);
