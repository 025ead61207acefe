import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createLog, Redactor } from '../lib/log.ts';
import { leaksIn, secretsOf } from './fakes/leaks.ts';

function redactor(...secrets: string[]): Redactor {
  const made = new Redactor();
  for (const secret of secrets) made.add(secret);
  return made;
}

describe('a redactor', () => {
  const secret = 'p/a+s "w\\ord"=é';
  test.each([
    ['as it is', secret],
    ['percent-encoded', encodeURIComponent(secret)],
    ['in JSON', JSON.stringify({ secret })],
    ['in base64', Buffer.from(secret).toString('base64')],
    ['in base64url', Buffer.from(secret).toString('base64url')],
    ['in base64 behind a name', Buffer.from(`user:${secret}`).toString('base64')],
    ['in base64 behind another name', Buffer.from(`name:${secret}`).toString('base64')],
    ['in base64 behind a third name', Buffer.from(`other:${secret}!`).toString('base64')],
  ])('takes a secret out %s', (_, form) => {
    const clean = redactor(secret).clean(`before ${form} and again ${form} behind`);
    expect(clean).toMatch(/^before .*\*\*redacted\*\*.* and again .*\*\*redacted\*\*.* behind$/);
    expect(leaksIn(clean, [secret])).toEqual([]);
    expect(clean).not.toContain('ord');
    expect(clean).not.toContain(form);
  });

  test('leaves nothing of a secret in which another stands', () => {
    expect(redactor('secret', 'secret-and-more', 'other-secret').clean('secret-and-more other-secret')).toBe('**redacted** **redacted**');
  });

  test('leaves short words alone', () => {
    expect(redactor('a', '').clean('a banana')).toBe('a banana');
  });
});

test('the log file gets the same clean lines, as JSON', () => {
  const dir = mkdtempSync(join(tmpdir(), 'log-'));
  try {
    const file = join(dir, 'log');
    const lines: string[] = [];
    const log = createLog({ level: 'info', format: 'pretty', redactor: redactor('hf_secret'), write: (line) => lines.push(line), file });
    log.info({ url: 'http://x/?t=hf_secret' }, 'asked with hf_secret');
    log.debug('not said');
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('asked with **redacted**');
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({
      level: 'info',
      msg: 'asked with **redacted**',
      url: 'http://x/?t=**redacted**',
    });
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('the search for leaks finds a secret in every form', () => {
  const secret = 'hf_Ab+c/d=1234567890';
  const forms = [secret, encodeURIComponent(secret), Buffer.from(secret).toString('hex')];
  for (const before of ['', 'x', 'xy']) {
    const base64 = Buffer.from(`${before}${secret} and more`).toString('base64');
    forms.push(base64, base64.replaceAll('+', '-').replaceAll('/', '_'));
  }
  for (const form of forms) expect(leaksIn(`a line with ${form} in it`, [secret]), form).not.toEqual([]);
  expect(leaksIn('a line with nothing in it', [secret])).toEqual([]);
  expect(secretsOf({ HF_TOKEN: secret, AWS_SECRET_ACCESS_KEY: 'other-secret', AWS_ACCESS_KEY_ID: secret, MODEL_ID: 'a/b' })).toEqual([
    secret,
    'other-secret',
  ]);
});
