/** Bytes: more than rows on their way ever take at once (88 MiB where a block of rows is as large as it may be), with what lies waste between them. */
const totalBytes = 128 * 1024 ** 2;

/** Pieces begin where any word may. */
const unit = 4096;

/**
 * Memory that all threads see: nothing is copied or handed over, and no engine counts it as its own, whose collector would run for it all the time.
 * For that reason what is let go would not be given back for long: all pieces, of whatever sizes, are cut from one block, those in front first, so that
 * no more of it is ever resident than was in use at once.
 */
export class SharedMemory {
  readonly #block: SharedArrayBuffer;
  /** What is free, from and up to, in order; none touches the next. */
  readonly #free: { from: number; to: number }[];

  /** @param bytes Of the block; a system gives pages of it only when they are written to. */
  constructor(bytes = totalBytes) {
    this.#block = new SharedArrayBuffer(bytes);
    this.#free = [{ from: 0, to: bytes }];
  }

  /** A piece of that many bytes, whatever they hold; of memory of its own where the block has no room. */
  take(bytes: number): Uint8Array<SharedArrayBuffer> {
    const room = roomFor(bytes);
    const at = this.#free.findIndex(({ from, to }) => to - from >= room);
    const found = this.#free[at];
    if (found === undefined) return new Uint8Array(new SharedArrayBuffer(bytes));
    const piece = new Uint8Array(this.#block, found.from, bytes);
    found.from += room;
    if (found.from === found.to) this.#free.splice(at, 1);
    return piece;
  }

  /** Takes back a piece that `take` gave, the very one: it may be given to the next from now on. */
  give(piece: Uint8Array<SharedArrayBuffer>): void {
    if (piece.buffer !== this.#block) return;
    const [from, to] = [piece.byteOffset, piece.byteOffset + roomFor(piece.length)];
    const behind = this.#free.findIndex((free) => free.from >= to);
    const at = behind < 0 ? this.#free.length : behind;
    this.#free.splice(at, 0, { from, to });
    this.#join(at);
    if (at > 0) this.#join(at - 1);
  }

  /** Takes back all that is out: nobody may touch it any more. */
  giveAll(): void {
    this.#free.splice(0, Number.POSITIVE_INFINITY, { from: 0, to: this.#block.byteLength });
  }

  /** Makes one of a free part and the next where they touch. */
  #join(at: number): void {
    const [part, next] = [this.#free[at], this.#free[at + 1]];
    if (part === undefined || next === undefined || part.to !== next.from) return;
    part.to = next.to;
    this.#free.splice(at + 1, 1);
  }
}

function roomFor(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / unit)) * unit;
}
