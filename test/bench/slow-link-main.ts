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
  // One timer for the first in the queue: timers of their own could overtake each other, and bytes with them.
  const queue: { due: number; arrive: () => void }[] = [];
  const deliver = () => {
    for (let next = queue[0]; next && next.due <= performance.now(); next = queue[0]) {
      queue.shift();
      next.arrive();
    }
    if (queue[0]) setTimeout(deliver, Math.max(0, queue[0].due - performance.now()));
  };
  const send = (arrive: () => void) => {
    queue.push({ due: free + rtt / 2, arrive });
    if (queue.length === 1) setTimeout(deliver, Math.max(0, free + rtt / 2 - performance.now()));
  };
  from.on('data', (chunk: Buffer) => {
    free = Math.max(free, performance.now()) + (chunk.length / rate) * 1000;
    underWay += chunk.length;
    if (underWay > window) from.pause();
    const arrived = () => {
      underWay -= chunk.length;
      if (underWay <= window) from.resume();
    };
    send(() => {
      if (to.writable) to.write(chunk, arrived);
    });
  });
  from.on('end', () => send(() => to.end()));
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
