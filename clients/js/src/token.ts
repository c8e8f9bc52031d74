// Where tokens come from: a text, or a function that is asked again before the last one ends, once for all who wait.
import { RoomlogError, wrap } from "./errors.js";

/** A token, or what fetches one from the application's own server. */
export type TokenSource = string | (() => string | Promise<string>);

/** A request that hangs, as they do when a phone changes networks, must not hold everything up for good. */
const PATIENCE_MS = 30_000;

interface Claims {
  sub?: string;
  iat?: number;
  exp?: number;
}

/** What a token says of itself. Nothing is verified: that is the server's part. */
export function claimsOf(token: string): Claims {
  try {
    const payload = token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as Claims;
  } catch {
    return {};
  }
}

export class Tokens {
  #current: string | undefined;
  #asking: Promise<string> | undefined;
  /** When a new one shall be asked for, on this machine's clock. */
  renewAt = Infinity;

  readonly #source: TokenSource;

  constructor(source: TokenSource) {
    this.#source = source;
  }

  /** Whether there is anybody to ask for another one. */
  get renewable(): boolean {
    return typeof this.#source === "function";
  }

  /** A token that should hold for a while yet. */
  async get(): Promise<string> {
    if (typeof this.#source === "string") return this.#source;
    if (this.#current !== undefined && Date.now() < this.renewAt) return this.#current;
    return this.renew();
  }

  /** A new token. Who asks while the function is being asked gets the same answer. */
  renew(): Promise<string> {
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  /** The server refused the token. */
  spent(): void {
    if (!this.renewable) throw new RoomlogError("token_expired", "the token has expired: pass a function as `token`, so that the client can fetch a new one");
    this.#current = undefined;
  }

  async #ask(): Promise<string> {
    let token;
    let timer;
    const late = new Promise<never>((_, reject) => (timer = setTimeout(reject, PATIENCE_MS, `it did not return within ${PATIENCE_MS / 1000} seconds`)));
    try {
      token = await Promise.race([(this.#source as () => string | Promise<string>)(), late]);
    } catch (error) {
      throw wrap(error, "application", "the token function failed");
    } finally {
      clearTimeout(timer);
    }
    if (typeof token !== "string" || token === "") throw new RoomlogError("application", "the token function must return a token: a text that is not empty");
    this.#current = token;
    this.renewAt = Date.now() + leadOf(token);
    return token;
  }
}

/**
 * For how many milliseconds a new token is used: two thirds of what is left of its life, or up to a minute before its end. Where this
 * machine's clock cannot be right, the token counts as new.
 */
function leadOf(token: string): number {
  const { iat = 0, exp } = claimsOf(token);
  if (exp === undefined) return Infinity;
  const now = Date.now() / 1000;
  const life = (exp - (now < exp && now > iat - 60 ? now : iat)) * 1000;
  return Math.max(1000, life - Math.min(60_000, life / 3));
}
