// The close codes of a WebSocket that matter to a client. Over HTTP, the same causes have the same codes.

/** From this close code on, a client must not connect again. */
const FINAL = 4500;

/** The token has expired: the client connects again with a new one. */
export const TOKEN_EXPIRED = 4001;

/** The token is not accepted. */
export const UNAUTHENTICATED = 4501;

/** The token was revoked. */
export const TOKEN_REVOKED = 4502;

/** Returns the error code of a final close, or undefined if the client may connect again. */
export function finalCode(code = 0): string | undefined {
  if (code < FINAL) return undefined;
  return { [UNAUTHENTICATED]: "unauthenticated", [TOKEN_REVOKED]: "token_revoked", 4503: "rate_limited" }[code] ?? "closed";
}

/** Tells whether the network may have ended a socket, since the code is not one of the server's own. */
export const isSuspicious = (code = 0): boolean => code <= 1006;
