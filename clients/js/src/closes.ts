// The close codes of a WebSocket, as far as a client acts on them. Over HTTP the same causes have the same codes.

/** Close codes from which on a client must not connect again. */
const FINAL = 4500;

/** The token has expired: the client connects again with a new one. */
export const TOKEN_EXPIRED = 4001;

/** The token is not accepted. */
export const UNAUTHENTICATED = 4501;

/** The token was revoked. */
export const TOKEN_REVOKED = 4502;

/** Returns the error code of a close that is final, or nothing if the client may connect again. */
export function finalCode(code = 0): string | undefined {
  if (code < FINAL) return undefined;
  return { [UNAUTHENTICATED]: "unauthenticated", [TOKEN_REVOKED]: "token_revoked", 4503: "rate_limited" }[code] ?? "closed";
}

/** Tells whether a socket may have ended because the network lets no WebSockets through: no code is the server's own. */
export const isSuspicious = (code = 0): boolean => code <= 1006;
