/**
 * The registry as a program. Env: HOST, PORT (default 127.0.0.1 and a free port), MODE (`v0.2.22` or `v0.3`), TOKEN (the Bearer token that every
 * request must carry). Prints its origin.
 */
import { search } from './leaks.ts';
import { FakeRegistry } from './registry.ts';

search.requests = false;

const { env } = process;
const registry = new FakeRegistry({ mode: env.MODE === 'v0.3' ? 'v0.3' : 'v0.2.22', ...(env.TOKEN && { token: env.TOKEN }) });

registry.listen({ host: env.HOST || '127.0.0.1', port: Number(env.PORT || 0) }).then(
  () => console.log(registry.origin),
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void registry.close());
