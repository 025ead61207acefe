import { runCommand } from '../lib/step.ts';
import { steps } from './index.ts';

void runCommand(steps);
