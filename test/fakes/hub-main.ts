/**
 * The fake Hub as a program, for a pod: one bundled .cjs, set up by env alone.
 * HOST (0.0.0.0), PORT (8080), CDN_PORT (8081): where it listens.
 * PUBLIC_URL, PUBLIC_CDN_URL: its origins as clients reach them; by default the Host that was asked, and 127.0.0.1.
 * TOKENS: JSON {token: {access: [repo ids]}}; by default `hf_granted` may read all, `hf_stranger` only what is public.
 * SHARD_BYTES: size of each shard of acme/large-llama, which is there only then.
 * PAGE_SIZE: entries on a page of a listing.
 * FAULTS: JSON list of {on: regular expression for `METHOD /path?query`, side?: "cdn", times?, skip?, status? or a field of Fault}.
 * Each request is one JSON line on stdout; of Authorization it says only whether it was there.
 */

import { FakeHub, type Token } from './hub.ts';
import { search } from './leaks.ts';
import { tinyLlama } from './model.ts';
import type { FakeServer, Fault } from './server.ts';

search.requests = false;

interface FaultSetting extends Omit<Fault, 'on' | 'hold'> {
  on: string;
  side?: 'hub' | 'cdn';
  /** Short for answer: {status}. */
  status?: number;
}

const { env } = process;
const repos = ['acme/tiny-llama', 'acme/gated-llama', 'acme/private-llama', 'acme/junk-llama'];
const tokens = JSON.parse(env.TOKENS || JSON.stringify({ hf_granted: { access: repos }, hf_stranger: {} })) as Record<string, Token>;

const hub = new FakeHub({
  tokens,
  ...(env.PAGE_SIZE && { pageSize: Number(env.PAGE_SIZE) }),
  ...(env.PUBLIC_URL && { publicUrl: env.PUBLIC_URL }),
  ...(env.PUBLIC_CDN_URL && { publicCdnUrl: env.PUBLIC_CDN_URL }),
});
const tiny = hub.addRepo({ id: 'acme/tiny-llama', files: tinyLlama() });
tiny.tag('v1.0');
tiny.commit({ branch: 'next', files: tinyLlama({ seed: 2 }), message: 'Train some more' });
hub.addRepo({ id: 'acme/gated-llama', files: tinyLlama({ seed: 3 }), gated: 'manual' });
hub.addRepo({ id: 'acme/private-llama', files: tinyLlama({ seed: 4 }), private: true });
hub.addRepo({ id: 'acme/junk-llama', files: tinyLlama({ seed: 5, junk: true }), xet: true });
if (env.SHARD_BYTES) hub.addRepo({ id: 'acme/large-llama', files: tinyLlama({ seed: 6, shardBytes: Number(env.SHARD_BYTES) }) });

for (const { on, side = 'hub', status, ...fault } of JSON.parse(env.FAULTS || '[]') as FaultSetting[]) {
  hub[side].fail({ ...fault, on: new RegExp(on), ...(status !== undefined && { answer: { status } }) });
}
report('hub', hub.hub);
report('cdn', hub.cdn);

hub.listen({ host: env.HOST || '0.0.0.0', port: Number(env.PORT || 8080), cdnPort: Number(env.CDN_PORT || 8081) }).then(
  () => console.log(JSON.stringify({ event: 'listening', hub: hub.origin, cdn: hub.cdn.origin })),
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void hub.close());

function report(side: string, server: FakeServer): void {
  server.onDone = ({ method, url, status, bytesOut, headers }) => {
    const authorization = headers.authorization !== undefined;
    console.log(JSON.stringify({ side, method, url, status, bytesOut, authorization }));
    // A pod may be asked for days: what tests in one process look at is not kept here.
    server.requests.length = 0;
  };
}
