import { runStep } from '../../lib/step.ts';
import { download } from './step.ts';

void runStep(download);
