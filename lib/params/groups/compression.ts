import { archiveMethod } from '../../methods.ts';
import { methods } from '../../quantization/schemes.ts';
import { group } from '../declare.ts';

export const methodParam = group('Compression', {
  method: {
    type: 'string',
    enum: ['none', ...methods, archiveMethod],
    description: 'How to make it smaller; none passes it on, archive packs it, not to be served.',
    default: 'none',
    'x-env': ['COMPRESS_MODEL'],
    'x-words': { false: 'none', true: 'w4a16' },
  },
});

export const compressionParams = group('Compression', {
  ...methodParam,
  groupSize: {
    type: 'integer',
    minimum: -1,
    maximum: 4096,
    description: 'Weights that share a scale: 32, 64, 128 or -1 (a row); for w8a16, w4a16(-asym).',
  },
  ignore: {
    type: 'array',
    items: { type: 'string' },
    description:
      'Leave these modules as they are too: names, or re: and a pattern.\n\nPatterns are matched from the start, as Python does.',
    default: [],
  },
  targets: {
    type: 'array',
    items: { type: 'string' },
    description: 'Take only these: Linear (all), names, or re: and a pattern.',
    default: ['Linear'],
  },
  arithmetic: {
    type: 'string',
    enum: ['f32', 'native'],
    description: 'Round like the reference on a GPU (f32) or on a CPU (native).',
    default: 'f32',
  },
  removeSource: {
    type: 'boolean',
    description: 'Delete the model as it was downloaded, once the smaller one is there.',
    default: false,
  },
});

export const reportParams = group('Compression', {
  reportDir: { type: 'string', description: 'Put report.json and report.html into this folder too (sync: only here).' },
});
