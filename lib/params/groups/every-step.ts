import { group } from '../declare.ts';

/** Every step takes these; runStep reads them. */
export const commonParams = group('Every step', {
  resultsDir: { type: 'string', description: 'Folder for the results, one file each.' },
  logLevel: { type: 'string', enum: ['trace', 'debug', 'info', 'warn', 'error'], description: 'How much to say.', default: 'info' },
  logFormat: { type: 'string', enum: ['auto', 'json', 'pretty'], description: 'auto: pretty on a terminal, else json.', default: 'auto' },
  logFile: { type: 'string', description: 'Also append the log to this file, as JSON.', 'x-local': true },
  dryRun: { type: 'boolean', description: 'Say what would be done, and do nothing.', default: false },
  envFile: { type: 'string', description: 'Read environment from this file (on a terminal: ./.env).', 'x-local': true },
});
