// Frames over HTTP, where WebSockets are blocked: each client frame becomes a request, and each room that is subscribed to
// is followed by a stream of Server-Sent Events, or by long polling, which brings no signals.
import { RoomlogError, isTemporary } from "../errors.js";
import { before, compareIds, parseId } from "../ids.js";
import type { ClientFrame, HistoryPage, Message, ServerFrame } from "../protocol.js";
import { claimsOf } from "../token.js";
import { uuid } from "../uuid.js";
import { poll } from "./polling.js";
import { stream } from "./sse.js";
import type { Closed, Environment, Transport, TransportEvents, TransportKind } from "./transport.js";

/** Requests that are held open at once. Browsers have six connections to a host; some must be left for what is sent. */
const HELD = 4;

/** Of these, at most so many are streams, so that rooms beyond can take turns with the rest. */
const STREAMS = 3;

/** Longest time for an answer that is not held back on purpose. */
const ANSWER_WITHIN_MS = 15_000;

/** Pause before what was acknowledged is told again, where the server names none. */
const PAUSE_MS = 1000;

interface Init {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array<ArrayBuffer>;
  /** Milliseconds for the whole answer. */
  within?: number;
  /** Goes on when the page is closed. */
  keepalive?: boolean;
  /** Ends the request; the end of the transport if it is missing. */
  abort?: AbortSignal;
}

/** A room that is followed. */
export interface Following {
  room: string;
  /** Where delivery goes on. */
  position: string;
  live: boolean;
  /** Its durable subscription, as the server gave it to this client. */
  held?: { durable: string; holder: string };
  /** The newest id that is acknowledged and not told yet. */
  acked?: string | undefined;
  /** Whether a request tells what is acknowledged. */
  telling?: boolean;
  /** Ends it. */
  readonly control: AbortController;
}

interface Start {
  position: string;
  head: string;
  /** Of a durable subscription: what proves that this client has it. */
  holder?: string;
}

export class HttpTransport implements Transport {
  limit = Infinity;
  #token = "";
  /** What this client signals does not come back to the streams that name it. */
  readonly session = uuid();
  readonly #rooms = new Map<string, Following>();
  /** The last request for the durable subscription of each room. */
  readonly #takes = new Map<string, Promise<unknown>>();
  readonly #ended = new AbortController();
  #streams = 0;
  #held = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(
    private readonly environment: Environment,
    readonly kind: Exclude<TransportKind, "websocket">,
    private readonly events: TransportEvents,
  ) {
    queueMicrotask(() => this.#ended.signal.aborted || events.opened());
  }

  send(frame: ClientFrame): void {
    this.#handle(frame).catch((error: unknown) => {
      if (this.#ended.signal.aborted) return;
      if (!(error instanceof RoomlogError)) return this.end({ message: String(error) });
      const { code, message, retryAfterMs } = error;
      this.emit({ op: "error", ...ref(frame), code, message, ...(retryAfterMs && { retry_after_ms: retryAfterMs }) });
    });
  }

  close(): void {
    this.#ended.abort();
    for (const { control } of this.#rooms.values()) control.abort();
    this.#rooms.clear();
  }

  /** Ends the transport, for the connection to begin anew. */
  end(closed: Closed): void {
    if (this.#ended.signal.aborted) return;
    this.close();
    this.events.closed(closed);
  }

  emit(...frames: ServerFrame[]): void {
    if (!this.#ended.signal.aborted && frames.length > 0) this.events.frames(frames);
  }

  heard(): void {
    if (!this.#ended.signal.aborted) this.events.heard();
  }

  /** A room's followers share few connections: more than that take turns, and hold the server's answer back for less. */
  async turn<T>(work: (crowded: boolean) => Promise<T>): Promise<T> {
    while (this.#held >= HELD) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#held++;
    try {
      return await work(this.#rooms.size > HELD);
    } finally {
      this.#held--;
      this.#waiting.shift()?.();
    }
  }

  /** An answer, or why there is none: an error of the server as it is, of the network by ending the transport. */
  async fetch<T>(path: string, init: Init, take: (response: Response) => T | Promise<T>): Promise<T> {
    const { within = ANSWER_WITHIN_MS, abort = this.#ended.signal, headers, ...rest } = init;
    const control = new AbortController();
    const stop = (): void => control.abort();
    if (abort.aborted) stop();
    abort.addEventListener("abort", stop);
    const timer = setTimeout(stop, within);
    try {
      const response = await this.environment.fetch(this.environment.httpUrl + path, {
        ...rest,
        headers: { authorization: `Bearer ${this.#token}`, ...headers },
        cache: "no-store",
        signal: control.signal,
      });
      this.heard();
      if (!response.ok) await this.#refused(response);
      return await take(response);
    } catch (error) {
      if (!(error instanceof RoomlogError) && !abort.aborted) this.end({ message: `${path}: ${String(error)}` });
      throw error;
    } finally {
      clearTimeout(timer);
      abort.removeEventListener("abort", stop);
    }
  }

  read(path: string, init: Init = {}): Promise<unknown> {
    const { codec } = this.environment;
    const headers = { accept: codec.contentType, ...init.headers };
    return this.fetch(path, { ...init, headers }, async (response) => {
      const body = await response.arrayBuffer();
      return body.byteLength > 0 ? codec.decode(body) : undefined;
    });
  }

  #post(room: string, what: string, body: Record<string, unknown>, init?: Init): Promise<unknown> {
    const { codec } = this.environment;
    const headers = { "content-type": codec.contentType };
    return this.read(`${path(room)}/${what}`, { method: "POST", headers, body: codec.encode(body), ...init });
  }

  page(room: string, query: string, init?: Init): Promise<HistoryPage> {
    return this.read(`${path(room)}/messages?${query}`, init) as Promise<HistoryPage>;
  }

  async #handle(frame: ClientFrame): Promise<void> {
    const room = frame["room"] as string;
    switch (frame.op) {
      case "connect":
        this.#token = frame["token"] as string;
        await this.fetch("/healthz", {}, drain);
        return this.#answer(frame, { session: "", user: claimsOf(this.#token).sub ?? "", ...this.#expiry() });
      case "auth":
        this.#token = frame["token"] as string;
        return this.#answer(frame, this.#expiry());
      case "ping":
        await this.fetch("/healthz", {}, drain);
        return this.emit({ op: "pong", ...ref(frame) });
      case "publish": {
        const { data, type, key } = frame;
        const { id, duplicate } = (await this.#post(room, "messages", { data, type, key })) as { id: string; duplicate?: boolean };
        return this.#answer(frame, { id, ...(duplicate && { duplicate }) });
      }
      case "signal": {
        const { data, type, to } = frame;
        await this.#post(room, `signals?session=${this.session}`, { data, type, to });
        return this.#answer(frame, {});
      }
      case "ack":
        return this.#acknowledge(this.#rooms.get(room), frame["id"] as string);
      case "history": {
        const { after, before, limit = 100 } = frame;
        const bound = after ? `after=${after}` : before ? `before=${before}` : "order=desc";
        const page = await this.page(room, `${bound}&limit=${limit}`);
        if (!after && !before) page.messages.reverse();
        return this.#answer(frame, { ...page });
      }
      case "subscribe":
        return this.#subscribe(frame, room);
      case "unsubscribe":
        this.#rooms.get(room)?.control.abort();
        this.#rooms.delete(room);
        if (frame["forget"]) {
          const { sub = "" } = claimsOf(this.#token);
          const name = encodeURIComponent(frame["durable"] as string);
          await this.fetch(`${path(room)}/subscriptions/${encodeURIComponent(sub)}/${name}`, { method: "DELETE" }, drain);
        }
        return this.#answer(frame, {});
    }
  }

  async #subscribe(frame: ClientFrame, room: string): Promise<void> {
    this.#rooms.get(room)?.control.abort();
    const control = new AbortController();
    const following: Following = { room, position: "", live: false, control };
    this.#rooms.set(room, following);
    const { since, last, durable } = frame as { since?: string; last?: number; durable?: string };
    const { position, head, holder } = await (durable ? this.#take(room, { durable, since, last }) : this.#start(room, since, last));
    if (control.signal.aborted) return;
    following.position = position;
    if (durable) following.held = { durable, holder: holder! };
    this.#answer(frame, { room, position, head });
    const streaming = this.kind === "sse" && this.#streams < STREAMS;
    if (streaming) this.#streams++;
    try {
      await (streaming ? stream(this, following) : poll(this, following));
    } catch (error) {
      // Not an answer to the frame any more: what follows a room begins anew with the connection.
      if (!control.signal.aborted && !this.#lost(following, error)) this.end({ message: String(error) });
    } finally {
      if (streaming) this.#streams--;
    }
  }

  /** Takes a durable subscription. One request after the other: an older one that came later would take it from the newer. */
  #take(room: string, wanted: Record<string, unknown>): Promise<Start> {
    const take = () => this.#post(room, "subscriptions", wanted) as Promise<Start>;
    const taken = (this.#takes.get(room) ?? Promise.resolve()).then(take, take);
    this.#takes.set(room, taken);
    return taken;
  }

  /** Tells the server what is acknowledged: one request of a room at a time, each with the newest id. */
  async #acknowledge(following: Following | undefined, id: string): Promise<void> {
    if (!following?.held) return;
    following.acked = id;
    if (following.telling) return;
    following.telling = true;
    // The end of the transport does not end it: a client that is closed has acknowledged all the same.
    const init = { keepalive: true, abort: new AbortController().signal };
    try {
      while (following.acked !== undefined) {
        const { room, held, acked } = following;
        following.acked = undefined;
        try {
          await this.#post(room, "acks", { ...held, id: acked }, init);
        } catch (error) {
          if (this.#lost(following, error)) return;
          if (!(error instanceof RoomlogError && isTemporary(error)) || this.#ended.signal.aborted) throw error;
          following.acked ??= acked;
          await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? PAUSE_MS));
        }
      }
    } finally {
      following.telling = false;
    }
  }

  /** Whether an error says that somebody else has the durable subscription by now. Then it is over here. */
  #lost({ room, control }: Following, error: unknown): boolean {
    if (!(error instanceof RoomlogError && error.code === "not_subscribed")) return false;
    if (!control.signal.aborted) this.emit({ op: "unsubscribed", room, code: "replaced", message: error.message });
    control.abort();
    return true;
  }

  /** Where a subscription starts, as the server would say it. */
  async #start(room: string, since?: string, last?: number): Promise<Start> {
    if (since === "0") {
      const { messages: [first], head } = await this.page(room, "limit=1");
      return { position: first ? before(first.id) : head, head };
    }
    if (since && since !== "$") return { position: since, head: since };
    // The newest so many, which may take several pages.
    let bound = "order=desc";
    let oldest: Message | undefined;
    let head: string | undefined;
    for (let wanted = last || 0; ; ) {
      const page = await this.page(room, `${bound}&limit=${wanted || 1}`);
      head ??= page.head;
      if (bound === "order=desc") page.messages.reverse();
      if (wanted === 0) break;
      oldest = page.messages[0] ?? oldest;
      wanted -= page.messages.length;
      if (!page.more || wanted <= 0) break;
      bound = `before=${oldest!.id}`;
    }
    return { position: oldest ? before(oldest.id) : head, head };
  }

  #expiry(): { expires: number | null } {
    return { expires: claimsOf(this.#token).exp ?? null };
  }

  #answer(frame: ClientFrame, fields: Record<string, unknown>): void {
    if (frame.ref !== undefined) this.emit({ op: "ok", ref: frame.ref, ...fields });
  }

  /** Throws what a refused request means. What is not the server's own answer is the network's fault. */
  async #refused(response: Response): Promise<never> {
    const problem = (await response.json().catch(() => ({}))) as Record<string, unknown>;
    const { detail, retry_after_ms } = problem as { detail?: string; retry_after_ms?: number };
    // Proxies have a limit of their own, and no code.
    const code = (problem["code"] as string | undefined) ?? (response.status === 413 ? "too_large" : undefined);
    const message = detail ?? `HTTP status ${response.status}`;
    if (!code) throw new Error(message);
    const close = { token_expired: 4001, token_revoked: 4502, unauthenticated: 4501 }[code];
    if (close) this.end({ code: close, message });
    throw new RoomlogError(code, message, { retryAfterMs: retry_after_ms });
  }
}

/** Reads an answer that says nothing, so that its connection can be used again. */
const drain = (response: Response): Promise<unknown> => response.arrayBuffer();

const path = (room: string): string => `/v1/rooms/${encodeURIComponent(room)}`;

const ref = (frame: ClientFrame): { ref?: number } => (frame.ref === undefined ? {} : { ref: frame.ref });

/** A page as the frames that a subscription would have brought, up to the first hole that the page does not explain. */
export function framesOfPage(room: string, position: string, page: HistoryPage): [ServerFrame[], string, complete: boolean] {
  const frames: ServerFrame[] = [];
  let { gap } = page;
  const tellGap = (): void => {
    if (!gap || compareIds(gap.after, position) !== 0) return;
    frames.push({ op: "gap", room, ...gap });
    position = before(gap.next);
    gap = undefined;
  };
  for (const message of page.messages) {
    tellGap();
    if (parseId(message.id)[1] !== parseId(position)[1] + 1) return [frames, position, false];
    frames.push({ op: "message", ...message });
    position = message.id;
  }
  tellGap();
  return [frames, position, !page.more];
}
