// Who chats: a name, for which a server in development gives tokens, or a token that was pasted. It lasts as long as the tab,
// so that two tabs can be two people.
import { Roomlog, indexedDbOutbox } from "@roomlog/client";
import { Frames } from "./frames.ts";
import { Places } from "./places.ts";

export interface Identity {
  user: string;
  /** Missing where the server gives tokens by itself. */
  token?: string;
}

/** All that belongs to one who chats, while they do. */
export interface Session extends Identity {
  client: Roomlog;
  places: Places;
  frames: Frames;
}

const KEPT_AS = "roomlog identity";
const NAME_KEPT_AS = "roomlog user";

/** A token for development; `undefined` where the server gives none. */
async function devToken(user: string): Promise<string | undefined> {
  const response = await fetch(`/dev/token?user=${encodeURIComponent(user)}`);
  if (response.status === 404 || response.status === 403) return undefined;
  const body = (await response.json()) as { token: string; detail?: string };
  if (!response.ok) throw new Error(body.detail);
  return body.token;
}

/** Whether the server gives tokens by itself. */
export const givesTokens = async (): Promise<boolean> => (await devToken("somebody")) !== undefined;

/** Checks a name with the server. */
export async function byName(user: string): Promise<Identity> {
  await devToken(user);
  localStorage.setItem(NAME_KEPT_AS, user);
  return { user };
}

/** Reads whose token it is. Whether it is good is the server's to say. */
export function byToken(token: string): Identity {
  let user: unknown;
  try {
    const payload = token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    user = (JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown }).sub;
  } catch {
    // Said below.
  }
  if (typeof user !== "string") throw new Error("This is no token: it has three parts with dots between them, and names a user (sub).");
  return { user, token };
}

export const lastName = (): string => localStorage.getItem(NAME_KEPT_AS) ?? "";

export function recall(): Identity | undefined {
  const kept = sessionStorage.getItem(KEPT_AS);
  return kept === null ? undefined : (JSON.parse(kept) as Identity);
}

export function remember(identity: Identity | undefined): void {
  if (identity) sessionStorage.setItem(KEPT_AS, JSON.stringify(identity));
  else sessionStorage.removeItem(KEPT_AS);
}

export function begin({ user, token }: Identity): Session {
  const frames = new Frames();
  const client = new Roomlog(location.origin, {
    token: token ?? (async () => (await devToken(user)) ?? Promise.reject(new Error("the server gives no tokens any more"))),
    // MessagePack is smaller; this can be read in the drawer.
    encoding: "json",
    WebSocket: frames.Socket,
    outbox: { store: indexedDbOutbox(`roomlog ${user}`) },
  });
  return { user, ...(token !== undefined && { token }), client, places: new Places(user), frames };
}
