// Signs tokens, with the Web Crypto API that Node.js, Deno, Bun and edge runtimes have in common.
import { RoomlogError } from "../errors.js";

/** `read`: subscribe and history. `write`: publish and signal. `manage`: delete, list and revoke. */
export type Permission = "read" | "write" | "manage";

/** The key that signs: a secret that the server has too, or a private key whose public key it has. */
export type SigningKey =
  | {
      /** The server's `auth.hs256_secret`, of at least 32 bytes. */
      secret: string | Uint8Array;
      algorithm?: "HS256";
    }
  | {
      /** In the PEM format PKCS #8 (`-----BEGIN PRIVATE KEY-----`), or imported already. */
      privateKey: string | CryptoKey;
      algorithm: "RS256" | "ES256" | "EdDSA";
      /** The key's name in a key set, `kid`. */
      keyId?: string;
    };

/** A token's content, and its key. */
export type TokenOptions = SigningKey & {
  /** The user, `sub`. */
  user: string;
  /** What the user may do, by room, such as `{ "chat.*": ["read", "write"] }`. `*` stands for any run of characters. */
  rooms?: Record<string, Permission[]>;
  /** In seconds; an hour by default. */
  expiresIn?: number;
  /** A name for this token, `jti`, by which it can be revoked. */
  id?: string;
  /** The issuer, `iss`, where the server demands one. */
  issuer?: string;
  /** The audience, `aud`, where the server demands one. */
  audience?: string;
};

const PARAMETERS = {
  HS256: { name: "HMAC", hash: "SHA-256" },
  RS256: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  ES256: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
  EdDSA: { name: "Ed25519" },
};

const PERMISSIONS: readonly string[] = ["read", "write", "manage"] satisfies Permission[];

/** Signs a token for a user. */
export async function signToken(options: TokenOptions): Promise<string> {
  const { user, rooms = {}, expiresIn = 3600, id, issuer, audience, algorithm = "HS256" } = options;
  if (user === "") throw new RoomlogError("bad_request", "a token needs a `user`: a text that is not empty");
  for (const permission of Object.values(rooms).flat()) {
    if (PERMISSIONS.includes(permission)) continue;
    throw new RoomlogError("bad_request", `${JSON.stringify(permission)} is not a permission: use ${PERMISSIONS.join(", ")}`);
  }
  const now = Math.floor(Date.now() / 1000);
  const header = { alg: algorithm, typ: "JWT", ...("keyId" in options && { kid: options.keyId }) };
  const claims = { sub: user, iat: now, exp: now + expiresIn, rooms, jti: id, iss: issuer, aud: audience };
  const content = `${base64url(bytesOf(JSON.stringify(header)))}.${base64url(bytesOf(JSON.stringify(claims)))}`;
  const signature = await crypto.subtle.sign(PARAMETERS[algorithm], await keyOf(options), bytesOf(content));
  return `${content}.${base64url(new Uint8Array(signature))}`;
}

async function keyOf(options: SigningKey): Promise<CryptoKey> {
  if ("secret" in options) {
    const secret = typeof options.secret === "string" ? bytesOf(options.secret) : options.secret.slice();
    if (secret.length < 32) throw new RoomlogError("bad_request", `the secret has ${secret.length} bytes, and must have at least 32`);
    return crypto.subtle.importKey("raw", secret, PARAMETERS.HS256, false, ["sign"]);
  }
  const { privateKey, algorithm } = options;
  if (typeof privateKey !== "string") return privateKey;
  const base64 = /-----BEGIN PRIVATE KEY-----([^-]+)-----END PRIVATE KEY-----/.exec(privateKey)?.[1];
  if (!base64) {
    const advice = "convert others with `openssl pkcs8 -topk8 -nocrypt`";
    throw new RoomlogError("bad_request", `\`privateKey\` must be in the format that begins with -----BEGIN PRIVATE KEY-----; ${advice}`);
  }
  const bytes = Uint8Array.from(atob(base64.replace(/\s/g, "")), (char) => char.charCodeAt(0));
  try {
    return await crypto.subtle.importKey("pkcs8", bytes, PARAMETERS[algorithm], false, ["sign"]);
  } catch (cause) {
    throw new RoomlogError("bad_request", `\`privateKey\` is not a key for ${algorithm}`, { cause });
  }
}

const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

const base64url = (bytes: Uint8Array): string =>
  btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))
    .replace(/\+/g, "-")
    .replace(/\//g, "_")
    .replace(/=+$/, "");
