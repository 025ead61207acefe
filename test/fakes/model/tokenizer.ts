/** Tokens 256 to 258 of a byte-level BPE: before them the 256 bytes, behind them the merges. */
const special = ['<|begin_of_text|>', '<|end_of_text|>', '<|pad|>'];

/** Words whose letters are merged from the left, so that each merge builds on one before it. Ġ is a space, as in GPT-2's alphabet. */
const words = [
  'Ġthe',
  'Ġand',
  'Ġof',
  'Ġto',
  'Ġmodel',
  'Ġis',
  'Ġin',
  'ing',
  'tion',
  'Ġweights',
  'Ġllama',
  'Ġbytes',
  'Ġhub',
  'Ġregistry',
  'er',
];

const merges = mergesOf(words);

export const tinyTokenizer = {
  specialTokensMap: { bos_token: special[0], eos_token: special[1], pad_token: special[2] },
};

/** tokenizer.json, in the format of https://github.com/huggingface/tokenizers */
export function tokenizerJson(): object {
  const tokens = [...byteAlphabet(), ...special, ...merges.map(([a, b]) => a + b)];
  const added = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const begin = { SpecialToken: { id: special[0], type_id: 0 } };
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content, i) => ({ id: 256 + i, content, ...added })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: {
      type: 'TemplateProcessing',
      single: [begin, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [begin, { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { [special[0]!]: { id: special[0], ids: [256], tokens: [special[0]] } },
    },
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}

/** tokenizer_config.json with a chat template. */
export function tokenizerConfig(): object {
  const flags = { lstrip: false, normalized: false, rstrip: false, single_word: false, special: true };
  return {
    added_tokens_decoder: Object.fromEntries(special.map((content, i) => [String(256 + i), { content, ...flags }])),
    ...tinyTokenizer.specialTokensMap,
    chat_template: '{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}',
    clean_up_tokenization_spaces: false,
    model_max_length: 512,
    tokenizer_class: 'PreTrainedTokenizerFast',
  };
}

/** The printable stand-ins for the 256 bytes in the order of GPT-2's byte-level alphabet. */
function byteAlphabet(): string[] {
  const printable = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  const bytes = Array.from({ length: 256 }, (_, byte) => byte);
  const others = bytes.filter((byte) => !printable(byte));
  return [...bytes.filter(printable).map((byte) => String.fromCharCode(byte)), ...others.map((_, i) => String.fromCharCode(256 + i))];
}

function mergesOf(list: string[]): [string, string][] {
  const known = new Map<string, [string, string]>();
  for (const word of list) {
    for (let end = 2; end <= word.length; end += 1) {
      const pair: [string, string] = [word.slice(0, end - 1), word.slice(end - 1, end)];
      if (!known.has(pair.join(''))) known.set(pair.join(''), pair);
    }
  }
  return [...known.values()];
}
