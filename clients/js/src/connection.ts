// One connection to the server, however often it breaks: back-off, liveness, the token, and the choice of a transport. What
// is above sees when it is up, sends requests, and gets frames.
import { Answers } from "./answers.js";
import type { Settle } from "./answers.js";
import { Emitter } from "./emitter.js";
import { RoomlogError, wrap } from "./errors.js";
import type { Answer, ClientFrame, Fields, Op, Push, ServerFrame } from "./protocol.js";
import type { Tokens } from "./token.js";
import type { Closed, Environment, Transport, TransportEvents, TransportKind } from "./transport/transport.js";
import { WebSocketTransport } from "./transport/websocket.js";

/**
 * `idle`: not asked to connect yet. `connecting`. `open`: connected. `waiting`: for the next attempt. `closed`: for good, by
 * `close()` or because the server said so.
 */
export type ConnectionState = "idle" | "connecting" | "open" | "waiting" | "closed";

/** Times, in milliseconds. The defaults suit production. */
export interface Timing {
  /** Range of the first pause before connecting again. Pauses are random from 0 to a range that doubles. Default 500. */
  backoffMin: number;
  /** Greatest range of a pause. Default 20,000. */
  backoffMax: number;
  /** Longest time to connect. Default 10,000. */
  connect: number;
  /** Time for an answer to a probe, when the device wakes up or comes online. Default 2,000. */
  probe: number;
}

export interface ConnectionEvents {
  state: ConnectionState;
  /** Connected: subscriptions begin anew. */
  up: void;
  /** No longer. */
  down: void;
  push: Push;
  error: RoomlogError;
}

type Timer = "dial" | "connect" | "live" | "probe" | "renew";

/** Close codes from which on a client must not connect again. */
const FINAL = 4500;

/** How long a connection must hold for its loss to be the first one again. */
const STEADY_MS = 5_000;

/** How long a fallback is used before WebSockets are tried again, at the next loss. */
const FALLBACK_MS = 300_000;

const LOST = "the connection was lost";

/** Timers take no longer times than this. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class Connection extends Emitter<ConnectionEvents> {
  state: ConnectionState = "idle";
  /** The user that the token names. */
  user: string | undefined;
  /** The transport in use, or tried last. */
  transportKind: TransportKind;
  /** Why it is closed. */
  reason = new RoomlogError("closed", "the client is closed");
  #transport: Transport | undefined;
  #kind = 0;
  /** Times in a row that this kind of transport was found blocked. */
  #blocked = 0;
  #kindSince = 0;
  #attempts = 0;
  /** Aborted when the present attempt, or the connection that came of it, is given up. */
  #attempt = new AbortController();
  #dialedAt = 0;
  #openedAt = 0;
  #heardAt = 0;
  /** Whether the server took a token, and has refused none since. */
  #welcome = false;
  #pingMs = 25_000;
  #retryAfterMs: number | undefined;
  readonly #answers = new Answers();
  readonly #timers = new Map<Timer, ReturnType<typeof setTimeout>>();

  constructor(
    private readonly environment: Environment,
    private readonly kinds: TransportKind[],
    private readonly tokens: Tokens,
    private readonly timing: Timing,
  ) {
    super();
    this.transportKind = kinds[0]!;
  }

  /** Connects, unless that is under way already. */
  connect(): void {
    if (this.state === "idle") void this.#dial();
  }

  /** Ends it, for good. */
  close(): void {
    if (this.state !== "closed") this.#finish(this.reason);
  }

  /** The device woke up, or the network changed: finds out at once whether the connection still is one. */
  wake(networkChanged: boolean): void {
    if (networkChanged && this.#kind > 0) [this.#kind, this.#blocked] = [0, 0];
    if (this.state === "waiting" || (this.state === "connecting" && Date.now() - this.#dialedAt > this.timing.probe)) {
      this.#attempts = 0;
      void this.#dial();
    } else if (this.state === "open") {
      this.#probe(this.timing.probe);
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

  /** Sends a request, and calls back with its answer, in order with the frames around it. Exactly once. */
  ask<K extends Op>(op: K, fields: Fields<K>, settle: Settle<K>): void {
    if (this.state === "open") this.#put(op, fields, settle);
    else settle(new RoomlogError("disconnected", "there is no connection"));
  }

  /** Sends a request, and resolves with its answer. */
  request<K extends Op>(op: K, fields: Fields<K>): Promise<Answer<K>> {
    return new Promise((resolve, reject) => this.ask(op, fields, (answer) => (answer instanceof RoomlogError ? reject(answer) : resolve(answer))));
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
      this.#answers.settle(ref, wrap(error, "bad_request", "the frame cannot be sent"));
    }
  }

  #send<K extends Op>(op: K, fields: Fields<K>, ref?: { ref: number }): void {
    // That the fields are those of the op is beyond the compiler here; the callers' types say so.
    this.#transport!.send({ op, ...fields, ...ref } as ClientFrame);
  }

  async #dial(): Promise<void> {
    const signal = this.#drop("a newer attempt");
    this.#become("connecting");
    this.#dialedAt = Date.now();
    let token: string;
    try {
      token = await this.tokens.get();
    } catch (error) {
      if (!signal.aborted) this.#again({}, error as RoomlogError);
      return;
    }
    if (signal.aborted) return;
    this.#retryAfterMs = undefined;
    // A transport that was closed, as it is when the attempt is given up, has no more events.
    const events: TransportEvents = {
      opened: () => this.#introduce(token),
      heard: () => {
        this.#heardAt = Date.now();
        this.#clear("probe");
      },
      frames: (frames) => {
        // A frame may end the connection.
        for (const frame of frames) if (!signal.aborted) this.#received(frame);
      },
      closed: (closed) => this.#ended(closed),
    };
    this.#set("connect", this.timing.connect, () => this.#ended({ message: "not connected in time", blocked: true }));
    const kind = (this.transportKind = this.kinds[this.#kind]!);
    try {
      if (kind === "websocket") this.#transport = new WebSocketTransport(this.environment, events);
      else {
        // Most never need it.
        const { HttpTransport } = await import("./transport/http.js");
        if (!signal.aborted) this.#transport = new HttpTransport(this.environment, kind, events);
      }
    } catch (error) {
      if (!signal.aborted) this.#again({}, wrap(error, "application", "the transport cannot be used"));
    }
  }

  #introduce(token: string): void {
    this.#put("connect", { token }, (answer) => {
      // The close that follows an error says what to do.
      if (answer instanceof RoomlogError) return void (answer.code === "disconnected" || this.emit("error", answer));
      const { user, ping = 25, max_message: limit } = answer;
      this.#clear("connect");
      this.user = user;
      // Over HTTP it has said nothing yet.
      this.#welcome = this.transportKind === "websocket";
      this.#pingMs = ping * 1000;
      if (limit) this.#transport!.limit = limit * 16;
      this.#openedAt = this.#heardAt = Date.now();
      this.#blocked = 0;
      this.#watch();
      this.#scheduleRenewal();
      this.#become("open");
      this.emit("up", undefined);
    });
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
        return;
      case "pong":
        return;
      default:
        this.emit("push", frame);
    }
  }

  /** The transport ended, or must. */
  #ended(closed: Closed): void {
    // What was good is refused, though its time is not over: the server's keys have changed. Once, since the next may not be good either.
    if (closed.code === 4501 && this.#welcome && this.tokens.renewable) closed.code = 4001;
    const wasOpen = this.state === "open";
    const steady = wasOpen && Date.now() - this.#openedAt >= STEADY_MS;
    if (steady) this.#attempts = 0;
    if (closed.code !== undefined && closed.code >= FINAL) {
      const code = { 4501: "unauthenticated", 4502: "token_revoked", 4503: "rate_limited" }[closed.code] ?? "closed";
      return this.#finish(new RoomlogError(code, closed.message || `the server closed with ${closed.code}`));
    }
    if (closed.code === 4001) {
      this.#welcome = false;
      try {
        this.tokens.spent();
      } catch (error) {
        return this.#finish(error as RoomlogError);
      }
    }
    // A socket that ended before the first answer, without the server saying why: it may be that the network lets none through.
    const suspicious = this.transportKind === "websocket" && !wasOpen && !(closed.code! > 1006);
    if (this.#kind < this.kinds.length - 1 && (closed.blocked || suspicious)) void this.#judge(closed);
    else this.#again(closed);
  }

  /** Finds out whether the server is away, or only this transport does not get through. */
  async #judge(closed: Closed): Promise<void> {
    const signal = this.#drop(closed.message ?? LOST);
    this.#become("waiting");
    const away = (): void => {
      this.#blocked = 0;
      this.#again(closed);
    };
    this.#set("connect", this.timing.connect, away);
    let reachable = false;
    try {
      reachable = (await this.environment.fetch(`${this.environment.httpUrl}/healthz`, { cache: "no-store", signal })).ok;
    } catch {
      // It is away.
    }
    if (signal.aborted) return;
    if (!reachable) return away();
    // A stream that was held back is proof; a socket that broke may have met a restart.
    if (++this.#blocked < (this.transportKind === "websocket" ? 2 : 1)) return this.#again(closed);
    this.#kind++;
    this.#blocked = 0;
    this.#kindSince = Date.now();
    this.#attempts = 0;
    void this.#dial();
  }

  /** Connects again, later. */
  #again(closed: Closed, error?: RoomlogError): void {
    this.#drop(closed.message ?? LOST);
    if (error?.code === "token_expired") return this.#finish(error);
    if (this.#kind > 0 && Date.now() - this.#kindSince > FALLBACK_MS) [this.#kind, this.#blocked] = [0, 1];
    const { backoffMin, backoffMax } = this.timing;
    const range = Math.min(backoffMax, backoffMin * 2 ** Math.min(this.#attempts++, 30));
    const pause = this.#retryAfterMs ?? Math.random() * range;
    this.#retryAfterMs = undefined;
    this.#set("dial", pause, () => void this.#dial());
    this.#become("waiting");
    if (error) this.emit("error", error);
  }

  #finish(error: RoomlogError): void {
    this.reason = error;
    this.#drop(error.message);
    this.#become("closed");
    if (error.code !== "closed") this.emit("error", error);
  }

  /** Gives up the present attempt or connection: its timers, its transport, and all answers. Returns the signal of the next one. */
  #drop(why: string): AbortSignal {
    this.#attempt.abort();
    const { signal } = (this.#attempt = new AbortController());
    for (const name of [...this.#timers.keys()]) this.#clear(name);
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

  /** Any traffic is a sign of life; where there is none, one is asked for. */
  #watch(): void {
    const silent = Date.now() - this.#heardAt;
    if (silent >= this.#pingMs) this.#probe(this.timing.connect);
    this.#set("live", Math.max(this.#pingMs - silent, 1000), () => this.#watch());
  }

  #probe(within: number): void {
    this.tell("ping", {});
    this.#set("probe", within, () => {
      this.#attempts = 0;
      void this.#dial();
    });
  }

  #scheduleRenewal(pause = 0): void {
    if (!this.tokens.renewable) return;
    const wait = Math.max(this.tokens.renewAt - Date.now(), pause);
    // The longest timer is weeks; then it looks again.
    this.#set("renew", Math.min(wait, LONGEST_TIMER_MS), () => {
      if (wait > LONGEST_TIMER_MS) this.#scheduleRenewal();
      else void this.#renew(pause);
    });
  }

  /** Renews the token of this connection. What fails is tried again after a growing pause, while the old one holds. */
  async #renew(pause: number): Promise<void> {
    const { signal } = this.#attempt;
    const had = this.tokens.renewAt;
    let failed: RoomlogError | undefined;
    try {
      const token = await this.tokens.renew();
      if (signal.aborted) return;
      await this.request("auth", { token });
      if (this.tokens.renewAt <= had) failed = new RoomlogError("application", "the renewed token is no newer");
    } catch (error) {
      failed = error as RoomlogError;
    }
    if (signal.aborted) return;
    if (failed) this.emit("error", failed);
    this.#scheduleRenewal(failed ? Math.min(Math.max(1000, pause * 2), 30_000) : 0);
  }

  #set(name: Timer, ms: number, run: () => void): void {
    this.#clear(name);
    this.#timers.set(name, setTimeout(run, ms));
  }

  #clear(name: Timer): void {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}
