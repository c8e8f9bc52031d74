// The class of all errors, and which of them are temporary.

/** The codes of the protocol, and those of the client. */
export type ErrorCode =
  | "bad_frame" | "bad_request" | "unknown_op" | "unauthenticated" | "token_expired" | "token_revoked" | "forbidden"
  | "not_found" | "not_subscribed" | "not_durable" | "too_large" | "rate_limited" | "too_many" | "unavailable" | "internal"
  /** The connection was lost before the answer came. */
  | "disconnected"
  /** The client, or the room, was closed. */
  | "closed"
  /** Too many messages are unconfirmed; see `outbox.limit`. */
  | "outbox_full"
  /** The message was cancelled before it was sent. */
  | "cancelled"
  /** Messages were missing without a `gap`. This is a report: the client fetches them. */
  | "hole"
  /** A handler of the application threw `cause`. */
  | "handler"
  /** A store, or the token function, failed with `cause`. */
  | "application"
  | (string & {});

/** Every error of this package. */
export class RoomlogError extends Error {
  override readonly name = "RoomlogError";
  /** The protocol's code, or one of the client's own. */
  readonly code: ErrorCode;
  /** The milliseconds after which to try again, where the server named a time. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: { retryAfterMs?: number | undefined; cause?: unknown } = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Tells whether the same request may succeed later, with nothing changed. */
export const isTemporary = (error: RoomlogError): boolean =>
  error.code === "unavailable" || error.code === "rate_limited" || error.code === "disconnected";

/** Returns a thrown value as a `RoomlogError`, which it may be already. */
export const wrap = (cause: unknown, code: ErrorCode, what: string): RoomlogError =>
  cause instanceof RoomlogError
    ? cause
    : new RoomlogError(code, `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
