import { S3ServiceException } from '@aws-sdk/client-s3';
import { isTransient, kindOf, messageOf, StepError } from '../../lib/errors.ts';
import { isNotSupported } from '../../lib/s3/bucket.ts';

export type Verdict = 'yes' | 'no' | 'unknown';

/** What one question to the store came to. */
export interface Finding {
  check: string;
  verdict: Verdict;
  /** For people: a number, or why. */
  detail?: string | undefined;
}

/** Collects answers: a check that fails is an answer too, and does not end the others. */
export class Findings {
  readonly list: Finding[] = [];
  readonly #signal: AbortSignal;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  /** Asks one question. Only our own abort is thrown. */
  async ask(check: string, work: () => Promise<Verdict | boolean | { verdict: Verdict | boolean; detail: string }>): Promise<Verdict> {
    try {
      const answer = await work();
      const { verdict, detail } = typeof answer === 'object' ? answer : { verdict: answer, detail: undefined };
      return this.tell(check, typeof verdict === 'boolean' ? (verdict ? 'yes' : 'no') : verdict, detail);
    } catch (error) {
      this.#signal.throwIfAborted();
      if (isNotSupported(error)) return this.tell(check, 'no', answerOf(error).code);
      // Whether the store can is not known where we may not, or where it did not answer.
      const open = isTransient(error) || kindOf(error) === 'denied';
      return this.tell(check, open ? 'unknown' : 'no', kindOf(error) === 'denied' ? 'denied' : (answerOf(error).code ?? messageOf(error)));
    }
  }

  tell(check: string, verdict: Verdict, detail?: string): Verdict {
    this.list.push(detail === undefined ? { check, verdict } : { check, verdict, detail });
    return verdict;
  }

  verdict(check: string): Verdict {
    return this.list.find((finding) => finding.check === check)?.verdict ?? 'unknown';
  }

  detail(check: string): string | undefined {
    return this.list.find((finding) => finding.check === check)?.detail;
  }
}

/** What S3 answered: the status and the error's code, where there was an answer. */
export function answerOf(error: unknown): { status?: number | undefined; code?: string | undefined } {
  const cause = error instanceof StepError ? error.cause : undefined;
  if (!(cause instanceof S3ServiceException)) return {};
  return { status: cause.$metadata.httpStatusCode, code: cause.name };
}
