// The latest frames on the wire, with the response time of each answer.

export interface ShownFrame {
  n: number;
  sent: boolean;
  at: number;
  op: string;
  /** The frame as sent or received, without the token. */
  json: Record<string, unknown>;
  /** Milliseconds between the request with this `ref` and this answer. */
  took?: number;
  /** The `op` of the request that this answers. */
  of?: string;
}

type Frame = { op: string; ref?: number } & Record<string, unknown>;

/** The number of frames that are kept. */
const LIMIT = 300;

export class Frames {
  #shown: ShownFrame[] = [];
  #count = 0;
  readonly #pending = new Map<number, { op: string; at: number }>();
  readonly #listeners = new Set<() => void>();
  #notifying = false;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  readonly all = (): ShownFrame[] => this.#shown;

  /** A WebSocket that records its frames. */
  readonly Socket = ((frames) => class extends WebSocket {
    constructor(url: string, protocols: string) {
      super(url, protocols);
      this.addEventListener("message", ({ data }: MessageEvent<string>) => {
        // The server sends several frames at once as an array.
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
    // `ref` counts up across connections, and never starts again.
    if (sent && ref !== undefined) this.#pending.set(ref, { op, at: now });
    else if (ref !== undefined) {
      const request = this.#pending.get(ref);
      this.#pending.delete(ref);
      if (request) [shown.took, shown.of] = [now - request.at, request.op];
    }
    // Requests of a closed connection get no answer.
    if (sent && op === "connect") for (const old of this.#pending.keys()) if (old !== ref) this.#pending.delete(old);
    this.#shown = [...this.#shown.slice(1 - LIMIT), shown];
    this.#notify();
  }

  clear(): void {
    this.#shown = [];
    this.#notify();
  }

  /** Notifies once for frames that arrive together, such as a backlog of a thousand. */
  #notify(): void {
    if (this.#notifying) return;
    this.#notifying = true;
    setTimeout(() => {
      this.#notifying = false;
      for (const listener of this.#listeners) listener();
    }, 30);
  }
}
