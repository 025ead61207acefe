import type { QuantizationConfig } from '../quantization/schemes.ts';

const key = 'quantization_config';

/**
 * config.json with one more key at its end, or in place of its null. All else stays as it is, byte for byte: a number such as 1e-05, 10000.0 or Infinity would not come out of
 * a parser as it went in. `config` must be an object in which that key is not there, or null.
 */
export function withQuantization(config: Uint8Array, quantization: QuantizationConfig): Buffer {
  const text = Buffer.from(config).toString('utf8');
  const empty = new RegExp(`("${key}"\\s*:\\s*)null`);
  if (empty.test(text)) return Buffer.from(text.replace(empty, (_, name: string) => `${name}${JSON.stringify(quantization)}`));
  const end = text.lastIndexOf('}');
  const before = text.slice(0, end).trimEnd();
  const indent = /^\s*\{\r?\n([ \t]+)"/.exec(text)?.[1];
  const shown = JSON.stringify(quantization, null, indent).replaceAll('\n', `\n${indent ?? ''}`);
  const comma = before.trimStart() === '{' ? '' : ',';
  const row = indent === undefined ? `${comma}${comma && ' '}"${key}": ${shown}` : `${comma}\n${indent}"${key}": ${shown}\n`;
  return Buffer.from(`${before}${row}${text.slice(end)}`);
}
