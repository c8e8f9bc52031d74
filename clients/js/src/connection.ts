// One connection to the server, however often it breaks: back-off, liveness, the token, and the choice of a transport. What
// is above sees when it is up, sends requests, and gets frames.
import { Emitter } from "./emitter.js";
import { RoomlogError, wrap } from "./errors.js";
import type { ClientFrame, Ok, ServerFrame } from "./protocol.js";
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
  frame: ServerFrame;
  error: RoomlogError;
}

type Timer = "dial" | "connect" | "live" | "probe" | "renew";

type Answer = (answer: Ok | RoomlogError) => void;

/** Close codes from which on a client must not connect again. */
const FINAL = 4500;

/** How long a connection must hold for its loss to be the first one again. */
const STEADY_MS = 5_000;

/** How long a fallback is used before WebSockets are tried again, at the next loss. */
const FALLBACK_MS = 300_000;

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
  /** Counts attempts to connect, so that what belongs to an older one is known. */
  #dialed = 0;
  #dialedAt = 0;
  #openedAt = 0;
  #heardAt = 0;
  /** Whether the server took a token, and has refused none since. */
  #welcome = false;
  #pingMs = 25_000;
  #retryAfterMs: number | undefined;
  #reference = 0;
  readonly #answers = new Map<number, Answer>();
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

  /** Sends a frame, and calls back with its answer, in order with the frames around it. Exactly once. */
  ask(frame: ClientFrame, answer: Answer): void {
    if (this.state !== "open") return answer(new RoomlogError("disconnected", "there is no connection"));
    this.#put(frame, answer);
  }

  /** Sends a frame, and waits for its answer. */
  request(frame: ClientFrame): Promise<Ok> {
    return new Promise((resolve, reject) => this.ask(frame, (answer) => (answer instanceof RoomlogError ? reject(answer) : resolve(answer))));
  }

  /** Sends a frame if there is a connection. Nobody waits for an answer. */
  tell(frame: ClientFrame): void {
    if (this.state === "open") this.#transport!.send(frame);
  }

  #put(frame: ClientFrame, answer: Answer): void {
    const ref = ++this.#reference;
    this.#answers.set(ref, answer);
    try {
      this.#transport!.send({ ...frame, ref });
    } catch (error) {
      this.#answers.delete(ref);
      answer(wrap(error, "bad_request", "the frame cannot be sent"));
    }
  }

  async #dial(): Promise<void> {
    const dialed = ++this.#dialed;
    this.#drop("a newer attempt");
    this.#become("connecting");
    this.#dialedAt = Date.now();
    let token: string;
    try {
      token = await this.tokens.get();
    } catch (error) {
      if (dialed === this.#dialed) this.#again({}, error as RoomlogError);
      return;
    }
    if (dialed !== this.#dialed) return;
    this.#retryAfterMs = undefined;
    const mine = (handle: () => void) => (): void => void (dialed === this.#dialed && handle());
    const events: TransportEvents = {
      opened: mine(() => this.#introduce(token)),
      heard: mine(() => {
        this.#heardAt = Date.now();
        this.#clear("probe");
      }),
      frames: (frames) => {
        for (const frame of frames) if (dialed === this.#dialed) this.#received(frame);
      },
      closed: (closed) => void (dialed === this.#dialed && this.#ended(closed)),
    };
    this.#set("connect", this.timing.connect, () => this.#ended({ message: "not connected in time", blocked: true }));
    const kind = (this.transportKind = this.kinds[this.#kind]!);
    try {
      if (kind === "websocket") this.#transport = new WebSocketTransport(this.environment, events);
      else {
        // Most never need it.
        const { HttpTransport } = await import("./transport/http.js");
        if (dialed === this.#dialed) this.#transport = new HttpTransport(this.environment, kind, events);
      }
    } catch (error) {
      if (dialed === this.#dialed) this.#again({}, wrap(error, "application", "the transport cannot be used"));
    }
  }

  #introduce(token: string): void {
    this.#put({ op: "connect", token }, (ok) => {
      // The close that follows an error says what to do.
      if (ok instanceof RoomlogError) return void (ok.code === "disconnected" || this.emit("error", ok));
      this.#clear("connect");
      this.user = ok["user"] as string;
      // Over HTTP it has said nothing yet.
      this.#welcome = this.transportKind === "websocket";
      this.#pingMs = ((ok["ping"] as number | undefined) ?? 25) * 1000;
      const limit = ok["max_message"] as number | undefined;
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
    if (frame.op === "ok" || frame.op === "error") {
      const answer = frame.ref === undefined ? undefined : this.#answers.get(frame.ref);
      if (answer) this.#answers.delete(frame.ref!);
      if (frame.op === "ok") return answer?.(frame);
      const error = new RoomlogError(frame.code, frame.message, { retryAfterMs: frame.retry_after_ms });
      return answer ? answer(error) : this.emit("error", error);
    }
    if (frame.op === "goodbye") this.#retryAfterMs = frame.retry_after_ms;
    else if (frame.op !== "pong") this.emit("frame", frame);
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

  /** Whether it is the server that is away, or only this transport that does not get through. */
  async #judge(closed: Closed): Promise<void> {
    const dialed = ++this.#dialed;
    this.#drop(closed.message ?? "the connection was lost");
    this.#become("waiting");
    const reachable = await this.#reachable();
    if (dialed !== this.#dialed) return;
    this.#blocked = reachable ? this.#blocked + 1 : 0;
    // A stream that was held back is proof; a socket that broke may have met a restart.
    if (this.#blocked >= (this.transportKind === "websocket" ? 2 : 1)) {
      this.#kind++;
      this.#blocked = 0;
      this.#kindSince = Date.now();
      this.#attempts = 0;
      return void this.#dial();
    }
    this.#again(closed);
  }

  async #reachable(): Promise<boolean> {
    const control = new AbortController();
    const timer = setTimeout(() => control.abort(), this.timing.connect);
    try {
      const response = await this.environment.fetch(`${this.environment.httpUrl}/healthz`, { cache: "no-store", signal: control.signal });
      return response.ok;
    } catch {
      return false;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Connects again, later. */
  #again(closed: Closed, error?: RoomlogError): void {
    const dialed = ++this.#dialed;
    this.#drop(closed.message ?? "the connection was lost");
    if (error?.code === "token_expired") return this.#finish(error);
    if (this.#kind > 0 && Date.now() - this.#kindSince > FALLBACK_MS) [this.#kind, this.#blocked] = [0, 1];
    const { backoffMin, backoffMax } = this.timing;
    const range = Math.min(backoffMax, backoffMin * 2 ** Math.min(this.#attempts++, 30));
    const pause = this.#retryAfterMs ?? Math.random() * range;
    this.#retryAfterMs = undefined;
    this.#set("dial", pause, () => void (dialed === this.#dialed && this.#dial()));
    this.#become("waiting");
    if (error) this.emit("error", error);
  }

  #finish(error: RoomlogError): void {
    this.#dialed++;
    this.reason = error;
    this.#drop(error.message);
    this.#become("closed");
    if (error.code !== "closed") this.emit("error", error);
  }

  /** Lets go of the transport. Who waits for an answer is told that it will not come. */
  #drop(why: string): void {
    for (const name of [...this.#timers.keys()]) this.#clear(name);
    this.#transport?.close();
    this.#transport = undefined;
    const wasOpen = this.state === "open";
    if (wasOpen) this.state = "waiting";
    const answers = [...this.#answers.values()];
    this.#answers.clear();
    for (const answer of answers) answer(new RoomlogError("disconnected", why));
    if (wasOpen) this.emit("down", undefined);
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
    this.#transport!.send({ op: "ping" });
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
    const dialed = this.#dialed;
    const had = this.tokens.renewAt;
    let failed: RoomlogError | undefined;
    try {
      const token = await this.tokens.renew();
      if (dialed !== this.#dialed) return;
      await this.request({ op: "auth", token });
      if (this.tokens.renewAt <= had) failed = new RoomlogError("application", "the renewed token is no newer");
    } catch (error) {
      failed = error as RoomlogError;
    }
    if (dialed !== this.#dialed || this.state !== "open") return;
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
