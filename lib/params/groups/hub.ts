import { group } from '../declare.ts';

export const hubParams = group('Hub', {
  hubUrl: {
    type: 'string',
    description: 'Address of the Hub or of a mirror.',
    pattern: '^https?://',
    'x-shape': 'an address such as https://example.com',
    default: 'https://huggingface.co',
    'x-env': ['HF_ENDPOINT'],
  },
  hubToken: {
    type: 'string',
    description: 'Access token for gated and private models.',
    'x-secret': true,
    'x-env': ['HF_TOKEN', 'HUGGINGFACE_TOKEN', 'HUGGING_FACE_HUB_TOKEN'],
    'x-file-env': ['HF_TOKEN_PATH'],
  },
});
