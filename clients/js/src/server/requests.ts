// Requests to the REST API: the token, retries, and the meaning of refusals.
import type { Codec } from "../codec.js";
import { RoomlogError, isTemporary } from "../errors.js";
import { problemOf, statusOf } from "../problem.js";
import { Tokens } from "../token.js";
import type { TokenSource } from "../token.js";

/** Range of the first pause before a retry. Pauses are random from 0 to a range that doubles. */
const FIRST_PAUSE_MS = 200;

/** The codes of answers without one, which come from a proxy. */
const CODES: Record<number, string> = { 401: "unauthenticated", 403: "forbidden", 404: "not_found", 413: "too_large", 429: "rate_limited" };

export class ApiRequests {
  readonly #url: string;
  readonly #tokens: Tokens;
  readonly #timeout: number;
  readonly #codec: Codec;
  readonly #fetch: typeof fetch;

  constructor(url: string, token: TokenSource, timeout: number, codec: Codec, doFetch: typeof fetch) {
    if (!/^https?:\/\/[^/]/.test(url)) {
      throw new RoomlogError("bad_request", `${url} is not the address of a server: use one such as https://chat.example`);
    }
    this.#url = url.replace(/\/+$/, "");
    this.#tokens = new Tokens(token);
    this.#timeout = timeout;
    this.#codec = codec;
    // Some platforms demand that it is called without a `this`.
    this.#fetch = (...words) => doFetch(...words);
  }

  /** Makes a request, and returns its answer, a `T` by the server's API. */
  async read<T>(method: string, path: string, body?: unknown): Promise<T> {
    return (await this.page<T>(method, path, body)).value;
  }

  /** Makes a request, and returns its answer with the path of the next page, if there is one. */
  page<T>(method: string, path: string, body?: unknown): Promise<{ value: T; next: string | undefined }> {
    return this.#repeat(method, path, body, async (response) => {
      const value = this.#codec.decode(await response.arrayBuffer()) as T;
      return { value, next: /<([^>]*)>; rel="next"/.exec(response.headers.get("link") ?? "")?.[1] };
    });
  }

  /** Makes a request whose answer has no content. */
  async done(method: string, path: string, body?: unknown): Promise<void> {
    await this.#repeat(method, path, body, (response) => response.arrayBuffer());
  }

  /** Deletes. If the answer to an attempt was lost, the next one finds nothing to delete, which is then the wanted outcome. */
  async delete(path: string): Promise<void> {
    let isRepeated = false;
    try {
      await this.#repeat("DELETE", path, undefined, (response) => response.arrayBuffer(), () => (isRepeated = true));
    } catch (error) {
      if (!(isRepeated && error instanceof RoomlogError && error.code === "not_found")) throw error;
    }
  }

  /** Makes a request until it succeeds, fails for good, or the time is over. */
  async #repeat<T>(method: string, path: string, body: unknown, take: (response: Response) => Promise<T>, failed?: () => void): Promise<T> {
    const deadline = Date.now() + this.#timeout;
    let isRenewed = false;
    for (let range = FIRST_PAUSE_MS; ; range *= 2) {
      try {
        return await take(await this.#once(method, path, body, deadline));
      } catch (cause) {
        const error = cause instanceof RoomlogError ? cause : new RoomlogError("disconnected", `the server could not be reached: ${reasonOf(cause)}`, { cause });
        if (error.code === "token_expired" && !isRenewed) {
          this.#tokens.spent();
          isRenewed = true;
          continue;
        }
        const pause = error.retryAfterMs ?? Math.random() * range;
        if (!isTemporary(error) || Date.now() + pause >= deadline) throw error;
        failed?.();
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  async #once(method: string, path: string, body: unknown, deadline: number): Promise<Response> {
    const { contentType, encode } = this.#codec;
    const token = await this.#tokens.get();
    const response = await this.#fetch(this.#url + path, {
      method,
      headers: { authorization: `Bearer ${token}`, accept: contentType, ...(body !== undefined && { "content-type": contentType }) },
      ...(body !== undefined && { body: encode(body) }),
      signal: AbortSignal.timeout(Math.max(1, deadline - Date.now())),
    });
    if (response.ok) return response;
    const { status } = response;
    throw (await problemOf(response)) ?? new RoomlogError(CODES[status] ?? (status >= 500 ? "unavailable" : "bad_request"), statusOf(response));
  }
}

/** The reason why a request failed, which Node.js hides in the error's cause. */
const reasonOf = (error: unknown): string => {
  const { cause, message } = error as { cause?: Error; message?: string };
  return cause?.message || message || String(error);
};
