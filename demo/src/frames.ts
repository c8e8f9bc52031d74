// The frames that went over the wire lately, with how long each answer took.

export interface ShownFrame {
  n: number;
  sent: boolean;
  at: number;
  op: string;
  /** The frame as it went, without the token. */
  json: Record<string, unknown>;
  /** Milliseconds from the request with this `ref` to this answer. */
  took?: number;
  /** The request that this answers. */
  of?: string;
}

type Frame = { op: string; ref?: number } & Record<string, unknown>;

/** Frames that are kept. */
const KEPT = 300;

export class Frames {
  #shown: ShownFrame[] = [];
  #count = 0;
  readonly #asked = new Map<number, { op: string; at: number }>();
  readonly #listeners = new Set<() => void>();
  #telling = false;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  readonly all = (): ShownFrame[] => this.#shown;

  /** A WebSocket that records what goes through it. */
  readonly Socket = ((frames) => class extends WebSocket {
    constructor(url: string, protocols: string) {
      super(url, protocols);
      this.addEventListener("message", ({ data }: MessageEvent<string>) => {
        // The server sends several at once as an array.
        for (const frame of [JSON.parse(data) as Frame | Frame[]].flat()) frames.#add(false, frame);
      });
    }

    override send(data: string): void {
      frames.#add(true, JSON.parse(data) as Frame);
      super.send(data);
    }
  })(this);

  #add(sent: boolean, frame: Frame): void {
    const now = performance.now();
    const { op, ref } = frame;
    const shown: ShownFrame = { n: ++this.#count, sent, at: Date.now(), op, json: "token" in frame ? { ...frame, token: "…" } : { ...frame } };
    // References begin anew with nothing, and count on over connections.
    if (sent && ref !== undefined) this.#asked.set(ref, { op, at: now });
    else if (ref !== undefined) {
      const request = this.#asked.get(ref);
      this.#asked.delete(ref);
      if (request) [shown.took, shown.of] = [now - request.at, request.op];
    }
    // Answers that never come belong to connections that are gone.
    if (sent && op === "connect") for (const old of this.#asked.keys()) if (old !== ref) this.#asked.delete(old);
    this.#shown = [...this.#shown.slice(1 - KEPT), shown];
    this.#tell();
  }

  clear(): void {
    this.#shown = [];
    this.#tell();
  }

  /** A backlog of a thousand frames is shown once. */
  #tell(): void {
    if (this.#telling) return;
    this.#telling = true;
    setTimeout(() => {
      this.#telling = false;
      for (const listener of this.#listeners) listener();
    }, 30);
  }
}
