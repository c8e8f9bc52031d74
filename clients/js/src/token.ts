// The source of tokens: a text, or a function that is called again before the last token expires.
import { RoomlogError, wrap } from "./errors.js";

/** A token, or a function that fetches one from the application's own server. */
export type TokenSource = string | (() => string | Promise<string>);

/** Time for the function to return. A hanging request, as when a phone changes networks, must not hold the client up for good. */
const PATIENCE_MS = 30_000;

interface Claims {
  sub?: string;
  iat?: number;
  exp?: number;
}

/** Returns the claims of a token, unverified: verifying is the server's part. */
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
  /** When to fetch a new token, on this machine's clock. */
  renewAt = Infinity;

  readonly #source: TokenSource;

  constructor(source: TokenSource) {
    this.#source = source;
  }

  /** Whether another token can be fetched. */
  get renewable(): boolean {
    return typeof this.#source === "function";
  }

  /** Returns a token that is valid for a while yet. */
  async get(): Promise<string> {
    if (typeof this.#source === "string") return this.#source;
    if (this.#current !== undefined && Date.now() < this.renewAt) return this.#current;
    return this.renew();
  }

  /** Fetches a new token. Calls at the same time share one fetch. */
  renew(): Promise<string> {
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  /** Discards the token, since the server refused it. Throws if there can be no other. */
  spent(): void {
    if (!this.renewable) {
      const { exp } = claimsOf(this.#source as string);
      const when = exp === undefined ? "has expired" : `expired at ${new Date(exp * 1000).toISOString()}`;
      throw new RoomlogError("token_expired", `the token ${when}; pass a function as \`token\` so that the client can get a new one`);
    }
    this.#current = undefined;
  }

  async #ask(): Promise<string> {
    let token;
    let timer;
    const reason = `it did not return within ${PATIENCE_MS / 1000} seconds`;
    const late = new Promise<never>((_, reject) => (timer = setTimeout(reject, PATIENCE_MS, reason)));
    try {
      token = await Promise.race([(this.#source as () => string | Promise<string>)(), late]);
    } catch (error) {
      throw wrap(error, "application", "the token function failed");
    } finally {
      clearTimeout(timer);
    }
    if (typeof token !== "string" || token === "") {
      throw new RoomlogError("application", "the token function must return a token: a text that is not empty");
    }
    this.#current = token;
    this.renewAt = Date.now() + leadOf(token);
    return token;
  }
}

/**
 * Returns the milliseconds to use a new token for: two thirds of its remaining life, or until a minute before its end. Where this
 * machine's clock cannot be right, the token counts as new.
 */
function leadOf(token: string): number {
  const { iat = 0, exp } = claimsOf(token);
  if (exp === undefined) return Infinity;
  const now = Date.now() / 1000;
  const life = (exp - (now < exp && now > iat - 60 ? now : iat)) * 1000;
  return Math.max(1000, life - Math.min(60_000, life / 3));
}
