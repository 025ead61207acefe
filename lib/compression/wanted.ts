import { StepError } from '../errors.ts';
import { sha256Of } from '../integrity.ts';
import { type Method, schemeOf } from '../quantization/schemes.ts';
import { readPatterns } from '../quantization/select.ts';
import type { Derivation } from './derivation.ts';
import type { Wanted } from './plan.ts';

export interface Given {
  method: Method;
  groupSize?: number | undefined;
  ignore: readonly string[];
  targets: readonly string[];
  arithmetic: 'f32' | 'native';
}

export interface Quantization extends Derivation {
  method: Method;
  wanted: Wanted;
}

/** Reads what was asked for. Throws `usage` with all that is wrong. */
export function quantizationOf(given: Given): Quantization {
  const { method, groupSize, arithmetic, ignore, targets } = given;
  const faults: string[] = [];
  const attempt = <T>(read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof StepError)) throw error;
      faults.push(error.hint ? `${error.message} (${error.hint})` : error.message);
      return undefined;
    }
  };
  const scheme = attempt(() => schemeOf(method, { groupSize }));
  const ignorePatterns = attempt(() => readPatterns('ignore', ignore));
  const targetPatterns = attempt(() => readPatterns('targets', targets));
  if (scheme === undefined || ignorePatterns === undefined || targetPatterns === undefined) throw new StepError('usage', faults.join('; '));
  const usual = schemeOf(method).id === scheme.id;
  const config = {
    ...(usual ? {} : { groupSize: scheme.groupCols === 0 ? -1 : scheme.groupCols }),
    ...(ignore.length > 0 ? { ignore: [...ignore] } : {}),
    ...(targets.join() === 'Linear' ? {} : { targets: [...targets] }),
    ...(arithmetic === 'f32' ? {} : { arithmetic }),
  };
  const own = Object.keys(config).length === 0 ? '' : `-${sha256Of(JSON.stringify(config)).slice(0, 8)}`;
  return {
    wanted: { scheme, arithmetic, ignore: ignorePatterns, targets: targetPatterns },
    method,
    config,
    suffix: `-${method}${own}`,
  };
}
