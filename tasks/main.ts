import { runCommand } from '../lib/step.ts';
import { commands } from './index.ts';

void runCommand(commands);
