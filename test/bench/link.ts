/** What lies between a client and an end: round trip in ms, bytes per second of one connection each way. */
export interface Link {
  rtt: number;
  rate: number;
}

/** A wire on which nothing takes time. */
export const noLink: Link = { rtt: 0, rate: Number.POSITIVE_INFINITY };

/** ms, and what to do when that time has come. */
export interface Clock {
  now: () => number;
  at: (due: number, go: () => void) => void;
}

const realClock: Clock = {
  now: () => performance.now(),
  at: (due, go) => setTimeout(go, Math.max(0, Math.ceil(due - performance.now()))),
};

/** What may be under way over what the link itself holds, so that timers that come late do not slow it down; and how much of it is free before more is asked for. */
const slack = 1024 * 1024;
const step = slack / 2;

/**
 * One direction of a connection over a link, as a timetable: bytes leave one behind the other at its rate, and arrive half a round trip after
 * they left; nothing leaves before the round trip that sets the connection up. Slow start and loss are not in it: a window as large as the link's content is open from the first byte.
 */
export class Lane {
  readonly #link: Link;
  readonly #clock: Clock;
  readonly #window: number;
  /** When what was sent last has left. */
  #left: number;
  /** Sent, and not yet taken at the other end. */
  #underWay = 0;
  /** One timer, for the first: timers of their own could overtake each other, and bytes with them. */
  readonly #queue: { due: number; arrive: () => void }[] = [];
  #waiting: (() => void) | undefined;

  /** `opened`: when the client asked for the connection. */
  constructor(link: Link, opened: number, clock: Clock = realClock) {
    this.#link = link;
    this.#clock = clock;
    this.#window = (Number.isFinite(link.rate) ? (link.rate * link.rtt) / 1000 : 0) + slack;
    this.#left = opened + link.rtt;
  }

  /** Sends so many bytes now. `arrive` is called when the last of them has come, and tells when they are taken: at once, or later. */
  send(bytes: number, arrive: (taken: () => void) => void): void {
    const { rtt, rate } = this.#link;
    const now = this.#clock.now();
    this.#left = Math.max(this.#left, now) + (bytes / rate) * 1000;
    this.#underWay += bytes;
    const taken = () => this.#taken(bytes);
    const due = this.#left + rtt / 2;
    if (due <= now && this.#queue.length === 0) arrive(taken);
    else if (this.#queue.push({ due, arrive: () => arrive(taken) }) === 1) this.#clock.at(due, () => this.#deliver());
  }

  /** False while the link is full. */
  get hasRoom(): boolean {
    return this.#underWay <= this.#window;
  }

  /** Calls `go` when there is room: now, or after some of what is under way was taken. One may wait at a time. */
  whenRoom(go: () => void): void {
    if (this.hasRoom) go();
    else this.#waiting = go;
  }

  #taken(bytes: number): void {
    this.#underWay -= bytes;
    if (this.#waiting === undefined || this.#underWay > this.#window - step) return;
    const go = this.#waiting;
    this.#waiting = undefined;
    go();
  }

  #deliver(): void {
    const now = this.#clock.now();
    let count = 0;
    while (count < this.#queue.length && this.#queue[count]!.due <= now) count += 1;
    // What arrives may send more.
    for (const { arrive } of this.#queue.slice(0, count)) arrive();
    this.#queue.splice(0, count);
    const [next] = this.#queue;
    if (next) this.#clock.at(next.due, () => this.#deliver());
  }
}
