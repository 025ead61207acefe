import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';

/** A port of this machine that takes no connection: its queue is full, and whoever knocks hears nothing. Linux alone does so; Python 3 opens it. */
export async function deafServer(): Promise<{ origin: string; close: () => void }> {
  const lines = [
    'import socket,time',
    's=socket.socket()',
    's.bind(("127.0.0.1",0))',
    's.listen(0)',
    'print(s.getsockname()[1],flush=True)',
  ];
  const child = spawn('python3', ['-c', [...lines, 'time.sleep(600)'].join('\n')], { stdio: ['ignore', 'pipe', 'ignore'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number(line.toString());
  const fillers = [1, 2, 3].map(() => connect(port, '127.0.0.1').on('error', () => {}));
  await once(fillers[0] as (typeof fillers)[number], 'connect');
  const close = () => {
    for (const filler of fillers) filler.destroy();
    child.kill();
  };
  return { origin: `http://127.0.0.1:${port}`, close };
}
