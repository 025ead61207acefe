import type { Socket } from 'node:net';

/** Writes a text byte by byte, one every so many ms: never silent, and hardly ever done. */
export function trickling(text: string, ms: number): (socket: Socket) => void {
  return (socket) => {
    let at = 0;
    const timer = setInterval(() => {
      if (at < text.length) socket.write(text.charAt(at));
      at += 1;
    }, ms);
    socket.on('close', () => clearInterval(timer));
  };
}
