import { connect, createServer, type Socket } from 'node:net';

/**
 * A slow link to servers on this machine, as a program: every connection takes a round trip to set up, its bytes arrive half a round trip late and
 * no faster than the rate, each way. argv: JSON {rtt (ms), rate (bytes/s per connection), links: [{port, to}]}. Prints `ready`.
 */
const { rtt, rate, links } = JSON.parse(process.argv[2] ?? '{}') as { rtt: number; rate: number; links: { port: number; to: number }[] };

/** What may be under way in one direction: the link's own content, and some slack for timers that come late. */
const window = (rate * rtt) / 1000 + 1024 * 1024;

function carry(from: Socket, to: Socket, opened: number): void {
  let free = opened + rtt;
  let underWay = 0;
  from.on('data', (chunk: Buffer) => {
    free = Math.max(free, performance.now()) + (chunk.length / rate) * 1000;
    underWay += chunk.length;
    if (underWay > window) from.pause();
    setTimeout(
      () => {
        const arrived = () => {
          underWay -= chunk.length;
          if (underWay <= window) from.resume();
        };
        if (to.writable) to.write(chunk, arrived);
      },
      free - performance.now() + rtt / 2,
    );
  });
  from.on('end', () => setTimeout(() => to.end(), Math.max(0, free - performance.now()) + rtt / 2 + 1));
  from.on('error', () => to.destroy());
  from.on('close', () => setTimeout(() => to.destroy(), Math.max(0, free - performance.now()) + rtt));
}

let waiting = links.length;
for (const { port, to } of links) {
  createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    const server = connect({ port: to, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    const opened = performance.now();
    carry(client, server, opened);
    carry(server, client, opened);
  }).listen(port, '127.0.0.1', () => {
    waiting -= 1;
    if (waiting === 0) process.stdout.write('ready\n');
  });
}
