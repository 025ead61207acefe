import { runStep } from '../../lib/step.ts';
import { serve } from './step.ts';

void runStep(serve);
