// Requests over HTTP: the token, time limits, turns on few connections, and the meaning of refusals.
import { TOKEN_EXPIRED, TOKEN_REVOKED, UNAUTHENTICATED } from "../closes.js";
import { RoomlogError } from "../errors.js";
import { problemOf, statusOf } from "../problem.js";
import type { HistoryAnswer, HistoryQuery } from "../protocol.js";
import type { Closed, Environment, TransportEvents } from "./transport.js";

/** Limit of requests that are held open. Browsers have six connections to a host, and some must be left for sending. */
export const HELD = 4;

/** Time limit for an answer that is not held back on purpose. */
const ANSWER_WITHIN_MS = 15_000;

/** The close codes of refused tokens. */
const CLOSES: Record<string, number> = { token_expired: TOKEN_EXPIRED, token_revoked: TOKEN_REVOKED, unauthenticated: UNAUTHENTICATED };

export interface Init {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array<ArrayBuffer>;
  /** Time limit for the whole answer, in milliseconds. */
  within?: number;
  /** Lets the request continue when the page is closed. */
  keepalive?: boolean;
  /** Ends the request. By default, the end of the transport does. */
  abort?: AbortSignal;
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

  /** Ends the transport, for the connection to begin anew. */
  end(closed: Closed): void {
    if (this.over.aborted) return;
    this.close();
    this.#events.closed(closed);
  }

  /** Reports a sign of life. */
  heard(): void {
    if (!this.over.aborted) this.#events.heard();
  }

  /** Runs a request that is held open in its turn, since rooms share few connections. */
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

  /** Makes a request, and returns the result of `take`. Throws the server's errors; any other error ends the transport, too. */
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

  /** Makes a request whose answer has no content. */
  async done(path: string, init: Init = {}): Promise<void> {
    // Reading the body frees the connection for other requests.
    await this.fetch(path, init, (response) => response.arrayBuffer());
  }

  /** Makes a request whose answer is a `T` by the server's API. */
  read<T>(path: string, init: Init = {}): Promise<T> {
    const { codec } = this.#environment;
    const headers = { ...init.headers, accept: codec.contentType };
    return this.fetch(path, { ...init, headers }, async (response) => codec.decode(await response.arrayBuffer()) as T);
  }

  page(room: string, query: string, init?: Init): Promise<HistoryAnswer> {
    return this.read(`${pathOf(room)}/messages?${query}`, init);
  }

  /** Reads a page as the op `history` does. */
  async history(room: string, { after, before, limit = 100 }: HistoryQuery): Promise<HistoryAnswer> {
    const bound = after ? `after=${after}` : before ? `before=${before}` : "order=desc";
    const page = await this.page(room, `${bound}&limit=${limit}`);
    if (!after && !before) page.messages.reverse();
    return page;
  }

  /** Returns the options of a request that posts `body`. */
  posting(body: object): Init {
    const { contentType, encode } = this.#environment.codec;
    return { method: "POST", headers: { accept: contentType, "content-type": contentType }, body: encode(body) };
  }

  /** Throws the error of a refused request. Without a code it is not the server's own, and counts as one of the network. */
  async #refused(response: Response): Promise<never> {
    let error = await problemOf(response);
    if (!error && response.status === 413) error = new RoomlogError("too_large", statusOf(response));
    if (!error) throw new Error(statusOf(response));
    const close = CLOSES[error.code];
    if (close) this.end({ code: close, message: error.message });
    throw error;
  }
}

export const pathOf = (room: string): string => `/v1/rooms/${encodeURIComponent(room)}`;
