// The one class of errors, and which of them are worth another try.

/** What went wrong, as the protocol names it, and a few that only a client knows. */
export type ErrorCode =
  | "bad_frame" | "bad_request" | "unknown_op" | "unauthenticated" | "token_expired" | "token_revoked" | "forbidden"
  | "not_found" | "not_subscribed" | "not_durable" | "too_large" | "rate_limited" | "too_many" | "unavailable" | "internal"
  /** The connection was lost before the answer came. */
  | "disconnected"
  /** The client, or the room, was closed. */
  | "closed"
  /** As many messages wait as the outbox takes; see `outbox.limit`. */
  | "outbox_full"
  /** The message was cancelled before it was sent. */
  | "cancelled"
  /** A message was missing without a `gap` that says so. The room is resumed by itself; this is a report. */
  | "hole"
  /** A handler of the application threw; `cause` is what it threw. */
  | "handler"
  /** A store, or the token function, failed; `cause` is why. */
  | "application"
  | (string & {});

/** Every error of this package. */
export class RoomlogError extends Error {
  override readonly name = "RoomlogError";
  /** The protocol's code, or one of the client's own. */
  readonly code: ErrorCode;
  /** After how many milliseconds another try makes sense, where the server said so. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: { retryAfterMs?: number | undefined; cause?: unknown } = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Errors of a request that may go well the next time, with nothing changed. */
export const isTemporary = (error: RoomlogError): boolean =>
  error.code === "unavailable" || error.code === "rate_limited" || error.code === "disconnected";

/** Whatever was thrown, as an error of ours. */
export const wrap = (cause: unknown, code: ErrorCode, what: string): RoomlogError =>
  cause instanceof RoomlogError
    ? cause
    : new RoomlogError(code, `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
