// One connection to the server, re-established whenever it breaks: back-off, liveness checks, the token, and the choice of a
// transport. Its user sees when it is up, sends requests, and gets answers and pushes.
import { Answers } from "./answers.js";
import type { Settle } from "./answers.js";
import { TOKEN_EXPIRED, UNAUTHENTICATED, finalCode, isSuspicious } from "./closes.js";
import { Emitter } from "./emitter.js";
import { RoomlogError, wrap } from "./errors.js";
import type { Answer, ClientFrame, Fields, Op, Push, ServerFrame } from "./protocol.js";
import { problemOf } from "./problem.js";
import { Renewal } from "./renewal.js";
import { Timers } from "./timers.js";
import type { Tokens } from "./token.js";
import type { Closed, Environment, Transport, TransportEvents, TransportKind } from "./transport/transport.js";
import { WebSocketTransport } from "./transport/websocket.js";

/**
 * `idle`: not connected yet. `connecting`. `open`: connected. `waiting`: for the next attempt. `closed`: for good, by `close()` or
 * by the server.
 */
export type ConnectionState = "idle" | "connecting" | "open" | "waiting" | "closed";

/** Times, in milliseconds. The defaults suit production. */
export interface Timing {
  /** Range of the first pause before connecting again. Pauses are random from 0 to a range that doubles. Default 500. */
  backoffMin: number;
  /** Greatest range of a pause. Default 20,000. */
  backoffMax: number;
  /** The same while the page is visible. Default 5,000. */
  backoffMaxVisible: number;
  /** Longest time to connect. Default 10,000. */
  connect: number;
  /** Time for an answer to a probe, when the device wakes up or comes online. Default 2,000. */
  probe: number;
}

export interface ConnectionEvents {
  state: ConnectionState;
  /** The connection is open: subscriptions begin anew. */
  up: void;
  /** The connection was lost. */
  down: void;
  push: Push;
  error: RoomlogError;
}

/** Time that a connection must last for the back-off to begin anew. */
const STEADY_MS = 5_000;

/** Time after which WebSockets are tried again in place of a fallback, at the next loss. */
const FALLBACK_MS = 300_000;

const LOST = "the connection to the server was lost";

export class Connection extends Emitter<ConnectionEvents> {
  state: ConnectionState = "idle";
  /** The user that the token names. */
  user: string | undefined;
  /** The transport in use, or tried last. */
  transportKind: TransportKind;
  /** Why there is no connection, or why the last attempt failed. Undefined while there is one. */
  error: RoomlogError | undefined;
  /** The time of the next attempt, while it waits for that. */
  retryAt: Date | undefined;
  /** The reason why it is closed. */
  reason = new RoomlogError("closed", "the client is closed: create a new one to connect again");
  #transport: Transport | undefined;
  #kind = 0;
  /** Attempts in a row that suggest that the network blocks this transport. */
  #blocked = 0;
  #kindSince = 0;
  #attempts = 0;
  /** Aborted when the present attempt, or its connection, is given up: callbacks of an older one see that. */
  #attempt = new AbortController();
  #dialedAt = 0;
  #openedAt = 0;
  #heardAt = 0;
  /** Whether the server has accepted a token and has refused none since. */
  #welcome = false;
  #pingMs = 25_000;
  #retryAfterMs: number | undefined;
  /** The server's reason for ending the present attempt or connection. */
  #refusal: RoomlogError | undefined;
  #goodbye: RoomlogError | undefined;
  readonly #answers = new Answers();
  readonly #timers = new Timers<"dial" | "connect" | "live" | "probe" | "renew">();
  readonly #environment: Environment;
  readonly #kinds: TransportKind[];
  readonly #tokens: Tokens;
  readonly #timing: Timing;
  readonly #renewal: Renewal;

  constructor(environment: Environment, kinds: TransportKind[], tokens: Tokens, timing: Timing) {
    super();
    this.#environment = environment;
    this.#kinds = kinds;
    this.#tokens = tokens;
    this.#timing = timing;
    this.#renewal = new Renewal(this, tokens, (ms, run) => this.#timers.set("renew", ms, run));
    this.transportKind = kinds[0]!;
  }

  /** Connects, unless it has begun to. */
  connect(): void {
    if (this.state === "idle") void this.#dial();
  }

  /** Ends the connection for good. */
  close(): void {
    if (this.state !== "closed") this.#finish(this.reason);
  }

  /** Checks the connection now, since the device woke up or the network changed. */
  wake(networkChanged: boolean): void {
    if (networkChanged && this.#kind > 0) [this.#kind, this.#blocked] = [0, 0];
    if (this.state === "waiting" || (this.state === "connecting" && Date.now() - this.#dialedAt > this.#timing.probe)) {
      this.#attempts = 0;
      void this.#dial();
    } else if (this.state === "open") {
      this.#probe(this.#timing.probe);
    }
  }

  /** Resolves once there is a connection, and rejects once there will be none. */
  opened(): Promise<void> {
    this.connect();
    return new Promise((resolve, reject) => {
      const check = (state: ConnectionState): void => {
        if (state !== "open" && state !== "closed") return;
        off();
        if (state === "open") resolve();
        else reject(this.reason);
      };
      const off = this.on("state", check);
      check(this.state);
    });
  }

  /** Sends a request. Calls back with its answer exactly once, in order with the frames around it. */
  ask<K extends Op>(op: K, fields: Fields<K>, settle: Settle<K>): void {
    if (this.state === "open") this.#put(op, fields, settle);
    else settle(new RoomlogError("disconnected", "there is no connection to the server"));
  }

  /** Sends a request, and resolves with its answer. */
  request<K extends Op>(op: K, fields: Fields<K>): Promise<Answer<K>> {
    return new Promise((resolve, reject) => {
      this.ask(op, fields, (answer) => (answer instanceof RoomlogError ? reject(answer) : resolve(answer)));
    });
  }

  /** Sends a request without awaiting an answer. Does nothing if there is no connection. */
  tell<K extends Op>(op: K, fields: Fields<K>): void {
    if (this.state === "open") this.#send(op, fields);
  }

  #put<K extends Op>(op: K, fields: Fields<K>, settle: Settle<K>): void {
    const ref = this.#answers.expect(settle);
    try {
      this.#send(op, fields, { ref });
    } catch (error) {
      this.#answers.settle(ref, wrap(error, "bad_request", "the request could not be sent"));
    }
  }

  #send<K extends Op>(op: K, fields: Fields<K>, ref?: { ref: number }): void {
    // The compiler cannot see here that the fields belong to the op; the signatures of the callers ensure it.
    this.#transport!.send({ op, ...fields, ...ref } as ClientFrame);
  }

  async #dial(): Promise<void> {
    const signal = this.#drop("the client gave the connection up to connect anew");
    if (signal.aborted) return;
    this.#become("connecting");
    this.#dialedAt = Date.now();
    let token: string;
    try {
      token = await this.#tokens.get();
    } catch (error) {
      if (!signal.aborted) this.#again({}, error as RoomlogError);
      return;
    }
    if (signal.aborted) return;
    this.#retryAfterMs = this.#refusal = this.#goodbye = undefined;
    // Giving the attempt up closes the transport, which has no events after that.
    const events: TransportEvents = {
      opened: () => this.#introduce(token),
      heard: () => {
        this.#heardAt = Date.now();
        this.#timers.clear("probe");
      },
      frames: (frames) => {
        // A frame may end the connection.
        for (const frame of frames) if (!signal.aborted) this.#received(frame);
      },
      closed: (closed) => this.#ended(closed),
    };
    this.#timers.set("connect", this.#timing.connect, () => this.#ended({ message: "the server did not answer in time", blocked: true }));
    const kind = (this.transportKind = this.#kinds[this.#kind]!);
    try {
      if (kind === "websocket") {
        const Socket = await this.#environment.loadWebSocket!();
        if (!signal.aborted) this.#transport = new WebSocketTransport(this.#environment, Socket, events);
      } else {
        // Loaded on demand: most pages never need it.
        const { HttpTransport } = await import("./transport/http.js");
        if (!signal.aborted) this.#transport = new HttpTransport(this.#environment, kind, events);
      }
    } catch (error) {
      if (!signal.aborted) this.#again({}, wrap(error, "application", `the transport ${kind} could not be used`));
    }
  }

  #introduce(token: string): void {
    this.#put("connect", { token }, (answer) => {
      if (answer instanceof RoomlogError) return this.#refused(answer);
      const { user, ping = 25, max_message: limit } = answer;
      this.#timers.clear("connect");
      this.user = user;
      // Over HTTP, the server has not seen the token yet.
      this.#welcome = this.transportKind === "websocket";
      this.#pingMs = ping * 1000;
      if (limit) this.#transport!.limit = limit * 16;
      this.#openedAt = this.#heardAt = Date.now();
      this.#blocked = 0;
      this.error = undefined;
      this.#watch();
      this.#renewal.schedule(this.#attempt.signal);
      this.#become("open");
      this.emit("up", undefined);
    });
  }

  /** The server refused to be connected to. Over a WebSocket, the close that follows decides what to do. */
  #refused(error: RoomlogError): void {
    if (error.code === "disconnected") return;
    this.#refusal = error;
    if (this.transportKind !== "websocket") this.#ended({});
  }

  #received(frame: ServerFrame): void {
    switch (frame.op) {
      case "ok":
        return void this.#answers.settle(frame.ref, frame);
      case "error": {
        const error = new RoomlogError(frame.code, frame.message, { retryAfterMs: frame.retry_after_ms });
        return void (this.#answers.settle(frame.ref, error) || this.emit("error", error));
      }
      case "goodbye":
        this.#retryAfterMs = frame.retry_after_ms;
        this.#goodbye = new RoomlogError(frame.code, frame.message, { retryAfterMs: frame.retry_after_ms });
        return;
      case "pong":
        return;
      default:
        this.emit("push", frame);
    }
  }

  /** Reacts to the end of the transport: closes for good, judges the transport, or connects again. */
  #ended(closed: Closed): void {
    let { code } = closed;
    // An accepted token is refused before it has expired if the server's keys have changed. Once: the next may be refused, too.
    if (code === UNAUTHENTICATED && this.#welcome && this.#tokens.renewable) code = TOKEN_EXPIRED;
    const wasOpen = this.state === "open";
    if (wasOpen && Date.now() - this.#openedAt >= STEADY_MS) this.#attempts = 0;
    const final = finalCode(code);
    const told = this.#refusal ?? this.#goodbye;
    if (final) {
      const message = closed.message || `the server closed the connection for good, with code ${code}`;
      return this.#finish(told ?? new RoomlogError(final, message));
    }
    if (code === TOKEN_EXPIRED) {
      this.#welcome = false;
      try {
        this.#tokens.spent();
      } catch (error) {
        return this.#finish(error as RoomlogError);
      }
    }
    const suspicious = this.transportKind === "websocket" && !wasOpen && isSuspicious(code);
    if (this.#kind < this.#kinds.length - 1 && (closed.blocked || suspicious)) void this.#judge(closed);
    else this.#again(closed, this.#refusal);
  }

  /** Finds out whether the server is unreachable, or the network blocks this transport only. */
  async #judge(closed: Closed): Promise<void> {
    const signal = this.#drop(closed.message ?? LOST);
    if (signal.aborted) return;
    this.error = new RoomlogError("disconnected", closed.message || LOST);
    this.#become("waiting");
    const away = (refusal?: RoomlogError): void => {
      this.#blocked = 0;
      this.#again(closed, refusal);
    };
    this.#timers.set("connect", this.#timing.connect, () => away());
    let isReachable = false;
    let refusal: RoomlogError | undefined;
    try {
      const response = await this.#environment.fetch(`${this.#environment.httpUrl}/healthz`, { cache: "no-store", signal });
      isReachable = response.ok;
      // The server refuses a page of a foreign origin, and says so where the page can read it.
      if (!isReachable) refusal = await problemOf(response);
    } catch {
      // It is unreachable.
    }
    if (signal.aborted) return;
    if (!isReachable) return away(refusal);
    // A stream that was held back is proof. A socket that broke may have met a restart.
    if (++this.#blocked < (this.transportKind === "websocket" ? 2 : 1)) return this.#again(closed);
    this.#kind++;
    this.#blocked = 0;
    this.#kindSince = Date.now();
    this.#attempts = 0;
    void this.#dial();
  }

  /** Connects again after a pause. */
  #again(closed: Closed, error?: RoomlogError): void {
    const signal = this.#drop(closed.message ?? LOST);
    if (signal.aborted) return;
    if (this.#kind > 0 && Date.now() - this.#kindSince > FALLBACK_MS) [this.#kind, this.#blocked] = [0, 1];
    const { backoffMin, backoffMax, backoffMaxVisible } = this.#timing;
    const isVisible = globalThis.document?.visibilityState === "visible";
    const range = Math.min(backoffMax, isVisible ? backoffMaxVisible : Infinity, backoffMin * 2 ** Math.min(this.#attempts++, 30));
    const pause = this.#retryAfterMs ?? Math.random() * range;
    this.error = error ?? this.#goodbye ?? new RoomlogError("disconnected", closed.message || LOST);
    this.#retryAfterMs = undefined;
    this.retryAt = new Date(Date.now() + pause);
    this.#timers.set("dial", pause, () => void this.#dial());
    this.#become("waiting");
    if (error) this.emit("error", error);
  }

  #finish(error: RoomlogError): void {
    this.reason = this.error = error;
    this.#drop(error.message);
    this.#become("closed");
    if (error.code !== "closed") this.emit("error", error);
  }

  /**
   * Gives up the present attempt or connection: its timers, its transport, and all answers. Returns the signal of the next one,
   * which is aborted already if a handler has closed the client.
   */
  #drop(why: string): AbortSignal {
    this.#attempt.abort();
    const { signal } = (this.#attempt = new AbortController());
    this.#timers.clearAll();
    this.retryAt = undefined;
    this.#transport?.close();
    this.#transport = undefined;
    const wasOpen = this.state === "open";
    if (wasOpen) this.state = "waiting";
    this.#answers.fail(why);
    if (wasOpen) this.emit("down", undefined);
    return signal;
  }

  #become(state: ConnectionState): void {
    if (this.state === state && state !== "waiting") return;
    this.state = state;
    this.emit("state", state);
  }

  /** Asks for a sign of life when there was no traffic for a while. */
  #watch(): void {
    const silent = Date.now() - this.#heardAt;
    if (silent >= this.#pingMs) this.#probe(this.#timing.connect);
    this.#timers.set("live", Math.max(this.#pingMs - silent, 1000), () => this.#watch());
  }

  #probe(within: number): void {
    this.tell("ping", {});
    this.#timers.set("probe", within, () => {
      this.#attempts = 0;
      void this.#dial();
    });
  }
}
