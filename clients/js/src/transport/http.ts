// Frames over HTTP, where WebSockets are blocked. Each request frame becomes an HTTP request. Each subscribed room is followed by a
// stream of Server-Sent Events, or by long polling, which carries no signals.
import { RoomlogError } from "../errors.js";
import type { Answer, ClientFrame, Op, ServerFrame } from "../protocol.js";
import { claimsOf } from "../token.js";
import { uuid } from "../uuid.js";
import { DurableSubscriptions } from "./durable.js";
import type { Follower, Following } from "./following.js";
import { startOf } from "../room/pages.js";
import { poll } from "./polling.js";
import { HELD, HttpRequests, pathOf } from "./requests.js";
import { stream } from "./sse.js";
import type { Environment, Transport, TransportEvents, TransportKind } from "./transport.js";

/** Limit of streams among the requests that are held open, so that further rooms can take turns with the rest. */
const STREAMS = 3;

export class HttpTransport implements Transport, Follower {
  limit = Infinity;
  readonly session = uuid();
  readonly requests: HttpRequests;
  readonly #kind: Exclude<TransportKind, "websocket">;
  readonly #events: TransportEvents;
  readonly #rooms = new Map<string, Following>();
  readonly #durable = new DurableSubscriptions(this);
  #streams = 0;

  constructor(environment: Environment, kind: Exclude<TransportKind, "websocket">, events: TransportEvents) {
    this.#kind = kind;
    this.#events = events;
    this.requests = new HttpRequests(environment, events);
    this.requests.over.addEventListener("abort", () => {
      for (const { control } of this.#rooms.values()) control.abort();
      this.#rooms.clear();
    });
    queueMicrotask(() => this.requests.over.aborted || events.opened());
  }

  get isCrowded(): boolean {
    return this.#rooms.size > HELD;
  }

  send(frame: ClientFrame): void {
    this.#handle(frame).catch((error: unknown) => {
      if (this.requests.over.aborted) return;
      if (!(error instanceof RoomlogError)) return this.requests.end({ message: String(error) });
      const { code, message, retryAfterMs } = error;
      this.emit({ op: "error", ...refOf(frame), code, message, ...(retryAfterMs && { retry_after_ms: retryAfterMs }) });
    });
  }

  close(): void {
    this.requests.close();
  }

  emit(...frames: ServerFrame[]): void {
    if (!this.requests.over.aborted && frames.length > 0) this.#events.frames(frames);
  }

  async #handle(frame: ClientFrame): Promise<void> {
    const { requests } = this;
    switch (frame.op) {
      case "connect": {
        requests.token = frame.token;
        await requests.done("/healthz");
        const { sub: user = "", exp: expires = null } = claimsOf(frame.token);
        return this.#answer(frame, { session: "", user, expires });
      }
      case "auth":
        requests.token = frame.token;
        return this.#answer(frame, { expires: claimsOf(frame.token).exp ?? null });
      case "ping":
        await requests.done("/healthz");
        return this.emit({ op: "pong", ...refOf(frame) });
      case "publish": {
        const { room, data, type, key } = frame;
        const { id, duplicate } = await requests.read<Answer<"publish">>(`${pathOf(room)}/messages`, requests.posting({ data, type, key }));
        return this.#answer(frame, { id, ...(duplicate && { duplicate }) });
      }
      case "signal": {
        const { room, data, type, to } = frame;
        await requests.done(`${pathOf(room)}/signals?session=${this.session}`, requests.posting({ data, type, to }));
        return this.#answer(frame, {});
      }
      case "ack":
        return this.#durable.acknowledge(this.#rooms.get(frame.room), frame.id);
      case "history": {
        const { room, ...query } = frame;
        return this.#answer(frame, await requests.history(room, query));
      }
      case "subscribe":
        return this.#subscribe(frame);
      case "unsubscribe": {
        const { room, forget, durable } = frame;
        this.#rooms.get(room)?.control.abort();
        this.#rooms.delete(room);
        if (forget && durable) {
          const { sub = "" } = claimsOf(requests.token);
          await requests.done(`${pathOf(room)}/subscriptions/${encodeURIComponent(sub)}/${encodeURIComponent(durable)}`, { method: "DELETE" });
        }
        return this.#answer(frame, {});
      }
      default:
        // The compiler asks here for the HTTP request of a new op.
        return frame satisfies never;
    }
  }

  async #subscribe(frame: ClientFrame<"subscribe">): Promise<void> {
    const { requests } = this;
    const { room, durable } = frame;
    this.#rooms.get(room)?.control.abort();
    const control = new AbortController();
    const following: Following = { room, position: "", live: false, control };
    this.#rooms.set(room, following);
    let start;
    if (durable) {
      const { holder, ...taken } = await this.#durable.take(frame);
      following.held = { durable, holder };
      start = taken;
    } else start = await startOf((query) => requests.history(room, query), frame);
    if (control.signal.aborted) return;
    const { position, head } = start;
    following.position = position;
    this.#answer(frame, { room, position, head });
    const streaming = this.#kind === "sse" && this.#streams < STREAMS;
    if (streaming) this.#streams++;
    try {
      await (streaming ? stream(this, following) : poll(this, following));
    } catch (error) {
      // Too late for an answer to the frame: following begins anew with the connection.
      if (!control.signal.aborted && !this.#durable.endIfLost(following, error)) requests.end({ message: String(error) });
    } finally {
      if (streaming) this.#streams--;
    }
  }

  #answer<K extends Op>(frame: ClientFrame<K>, answer: Answer<K>): void {
    if (frame.ref !== undefined) this.emit({ op: "ok", ref: frame.ref, ...answer });
  }
}

const refOf = ({ ref }: ClientFrame): { ref?: number } => (ref === undefined ? {} : { ref });
