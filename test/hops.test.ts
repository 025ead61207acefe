import { describe, expect, test } from 'vitest';
import { kindOf } from '../lib/errors.ts';
import { nextHop } from '../lib/hub/hops.ts';

const refusal = (hub: string, location: string) => {
  try {
    return nextHop(hub, `${hub}/acme/model/resolve/main/config.json`, location);
  } catch (error) {
    return kindOf(error);
  }
};

describe('a redirect of the Hub', () => {
  test.each([
    'http://127.0.0.1/x',
    'http://127.1/x',
    'http://2130706433/x',
    'http://0x7f.0.0.1:9000/',
    'http://localhost:8080/x',
    'http://a.localhost./x',
    'http://[::1]/x',
    'http://[::ffff:127.0.0.1]/x',
    'http://0.0.0.0/x',
    'http://169.254.169.254/latest/meta-data/',
    'http://[::ffff:169.254.169.254]/',
    'http://[fe80::1]/',
    'http://[fd00:ec2::254]/',
  ])('to %s is refused, but for a Hub that is there', (location) => {
    expect(refusal('https://huggingface.co', location)).toBe('refused');
    expect(refusal(new URL(location).origin, location)).toBe(new URL(location).href);
  });

  test.each(['https://cdn.example.com/x?signature=1', 'http://10.1.2.3/bucket/x', '/api/other', 'http://[2001:db8::1]/x'])(
    'to %s is followed',
    (location) => {
      expect(refusal('https://huggingface.co', location)).toBe(new URL(location, 'https://huggingface.co').href);
    },
  );

  test.each(['file:///etc/passwd', 'http://[', 'ftp://host/x', 'javascript:1'])('to %s leads nowhere', (location) => {
    expect(refusal('https://huggingface.co', location)).toBe('usage');
  });
});
