import type { IncomingHttpHeaders } from 'node:http';
import { StepError } from '../errors.ts';

/** The head of an answer. */
export interface Head {
  status: number;
  headers: IncomingHttpHeaders;
  url: string;
  /** Of the server, or of the proxy in between. */
  remoteAddress?: string | undefined;
}

/** The text of a request before its body. Throws `usage` for header values that would end their line. */
export function requestText(method: 'GET' | 'PUT', { host, pathname, search }: URL, headers: Record<string, string>): string {
  const lines = Object.entries({ host, connection: 'keep-alive', ...headers }).map(([name, value]) => {
    if (/[^\t\u0020-\u007e\u0080-\u00ff]/.test(value))
      throw new StepError('usage', `failed to send header ${name}: it has control characters`);
    return `${name}: ${value}\r\n`;
  });
  return `${method} ${pathname}${search} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

/** RFC 9112, sections 4 and 5; undefined for what is not good HTTP/1.1: no leniency here. */
export function parseHead(text: string, url: string): Head | undefined {
  const [first = '', ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.1 ([1-9]\d\d)(?: |$)/.exec(first)?.[1];
  if (status === undefined) return undefined;
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    if (name === undefined || value === undefined) return undefined;
    const key = name.toLowerCase();
    const before = headers[key];
    if (before !== undefined && key === 'content-length') return undefined;
    headers[key] = before === undefined ? value : `${before}, ${value}`;
  }
  return { status: Number(status), headers, url };
}

/** The length of the body that a head announces, in bytes; undefined where it lies in the body itself (chunks), or in the connection's end. */
export function plainLength({ headers }: Head): number | undefined {
  const { 'content-length': length = '', 'transfer-encoding': coding } = headers;
  return coding === undefined && /^\d+$/.test(length) ? Number(length) : undefined;
}

/** Whether the connection stays open behind an answer (RFC 9112, 9.3). */
export function staysOpen({ headers }: Head): boolean {
  return !/\bclose\b/i.test(String(headers.connection ?? ''));
}
