// Requests over HTTP: the token, time limits, turns on few connections, and what a refusal means.
import { TOKEN_EXPIRED, TOKEN_REVOKED, UNAUTHENTICATED } from "../closes.js";
import { RoomlogError } from "../errors.js";
import type { HistoryPage } from "../protocol.js";
import type { Closed, Environment, TransportEvents } from "./transport.js";

/** Requests that are held open at once. Browsers have six connections to a host; some must be left for what is sent. */
export const HELD = 4;

/** Longest time for an answer that is not held back on purpose. */
const ANSWER_WITHIN_MS = 15_000;

export interface Init {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array<ArrayBuffer>;
  /** Milliseconds for the whole answer. */
  within?: number;
  /** Lets the request continue when the page is closed. */
  keepalive?: boolean;
  /** Ends the request; the end of the transport if it is missing. */
  abort?: AbortSignal;
}

/** An error of the server, as RFC 9457 has it. Proxies send errors of their own, without a code. */
interface Problem {
  code?: string;
  detail?: string;
  retry_after_ms?: number;
}

export class HttpRequests {
  token = "";
  readonly #environment: Environment;
  readonly #events: TransportEvents;
  readonly #over = new AbortController();
  #held = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(environment: Environment, events: TransportEvents) {
    this.#environment = environment;
    this.#events = events;
  }

  /** Aborted when the transport ends. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Ends all requests. */
  close(): void {
    this.#over.abort();
  }

  /** Ends the transport; the connection begins anew. */
  end(closed: Closed): void {
    if (this.over.aborted) return;
    this.close();
    this.#events.closed(closed);
  }

  /** Reports a sign of life. */
  heard(): void {
    if (!this.over.aborted) this.#events.heard();
  }

  /** Runs a request that is held open, when it is its turn: rooms share few connections. */
  async turn<T>(work: () => Promise<T>): Promise<T> {
    while (this.#held >= HELD) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#held++;
    try {
      return await work();
    } finally {
      this.#held--;
      this.#waiting.shift()?.();
    }
  }

  /** Returns what `take` makes of an answer. Throws the server's error as it is; a failure of the network ends the transport, too. */
  async fetch<T>(path: string, init: Init, take: (response: Response) => T | Promise<T>): Promise<T> {
    const { within = ANSWER_WITHIN_MS, abort = this.over, headers, ...rest } = init;
    const control = new AbortController();
    const stop = (): void => control.abort();
    if (abort.aborted) stop();
    abort.addEventListener("abort", stop);
    const timer = setTimeout(stop, within);
    try {
      const response = await this.#environment.fetch(this.#environment.httpUrl + path, {
        ...rest,
        headers: { authorization: `Bearer ${this.token}`, ...headers },
        cache: "no-store",
        signal: control.signal,
      });
      this.heard();
      if (!response.ok) await this.#refused(response);
      return await take(response);
    } catch (error) {
      if (!(error instanceof RoomlogError) && !abort.aborted) this.end({ message: `the request to ${path} failed: ${String(error)}` });
      throw error;
    } finally {
      clearTimeout(timer);
      abort.removeEventListener("abort", stop);
    }
  }

  /** Makes a request whose answer says nothing but that it was done. */
  async done(path: string, init: Init = {}): Promise<void> {
    // The body is read so that its connection can be used again.
    await this.fetch(path, init, (response) => response.arrayBuffer());
  }

  /** Makes a request whose answer holds a `T`, as the server's API promises. */
  read<T>(path: string, init: Init = {}): Promise<T> {
    const { codec } = this.#environment;
    const headers = { ...init.headers, accept: codec.contentType };
    return this.fetch(path, { ...init, headers }, async (response) => codec.decode(await response.arrayBuffer()) as T);
  }

  page(room: string, query: string, init?: Init): Promise<HistoryPage> {
    return this.read(`${pathOf(room)}/messages?${query}`, init);
  }

  /** Returns the request that posts `body`, for `read` or `done`. */
  posting(body: object): Init {
    const { contentType, encode } = this.#environment.codec;
    return { method: "POST", headers: { accept: contentType, "content-type": contentType }, body: encode(body) };
  }

  /** Throws what a refused request means. An answer without a code is not the server's own: the network is at fault. */
  async #refused(response: Response): Promise<never> {
    const problem = (await response.json().catch(() => ({}))) as Problem;
    const { code = response.status === 413 ? "too_large" : undefined, detail: message = `the server answered with the HTTP status ${response.status}` } = problem;
    if (!code) throw new Error(message);
    const close = { token_expired: TOKEN_EXPIRED, token_revoked: TOKEN_REVOKED, unauthenticated: UNAUTHENTICATED }[code];
    if (close) this.end({ code: close, message });
    throw new RoomlogError(code, message, { retryAfterMs: problem.retry_after_ms });
  }
}

export const pathOf = (room: string): string => `/v1/rooms/${encodeURIComponent(room)}`;
