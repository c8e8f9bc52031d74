// The renewal of a connection's token: before the token expires, and again after a growing pause while it fails.
import { RoomlogError } from "./errors.js";
import type { Tokens } from "./token.js";

/** The connection, as the renewal of its token uses it. */
export interface Renewable {
  request(op: "auth", fields: { token: string }): Promise<unknown>;
  emit(event: "error", error: RoomlogError): void;
}

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;

export class Renewal {
  readonly #connection: Renewable;
  readonly #tokens: Tokens;
  readonly #set: (ms: number, run: () => void) => void;

  /** @param set - Starts a timer, which ends with the connection. */
  constructor(connection: Renewable, tokens: Tokens, set: (ms: number, run: () => void) => void) {
    this.#connection = connection;
    this.#tokens = tokens;
    this.#set = set;
  }

  /** Renews the token in time, until `signal` is aborted. */
  schedule(signal: AbortSignal, pause = 0): void {
    if (!this.#tokens.renewable) return;
    this.#set(Math.max(this.#tokens.renewAt - Date.now(), pause), () => void this.#renew(signal, pause));
  }

  async #renew(signal: AbortSignal, pause: number): Promise<void> {
    const previous = this.#tokens.renewAt;
    let failed: RoomlogError | undefined;
    try {
      const token = await this.#tokens.renew();
      if (signal.aborted) return;
      await this.#connection.request("auth", { token });
      if (this.#tokens.renewAt <= previous) {
        const message = "the token function returned a token that does not expire later than the last one: let it fetch a new token";
        failed = new RoomlogError("application", message);
      }
    } catch (error) {
      failed = error as RoomlogError;
    }
    if (signal.aborted) return;
    if (failed) this.#connection.emit("error", failed);
    this.schedule(signal, failed ? Math.min(Math.max(FIRST_PAUSE_MS, pause * 2), LONGEST_PAUSE_MS) : 0);
  }
}
