// The signed-in user: a name, for which a server in development issues tokens, or a pasted token. It lasts as long as the tab,
// so two tabs can belong to two users.
import { Roomlog, indexedDbOutbox } from "@roomlog/client";
import { Frames } from "./frames.ts";
import { JoinedRooms } from "./joined-rooms.ts";

export interface Identity {
  user: string;
  /** Missing if the server issues tokens itself. */
  token?: string;
}

/** Everything that belongs to a signed-in user. */
export interface Session extends Identity {
  client: Roomlog;
  joined: JoinedRooms;
  frames: Frames;
}

const IDENTITY_KEY = "roomlog identity";
const NAME_KEY = "roomlog user";

/** Fetches a development token; `undefined` if the server issues none. */
async function devToken(user: string): Promise<string | undefined> {
  const response = await fetch(`/dev/token?user=${encodeURIComponent(user)}`);
  if (response.status === 404 || response.status === 403) return undefined;
  const body = (await response.json()) as { token: string; detail?: string };
  if (!response.ok) throw new Error(body.detail);
  return body.token;
}

/** Whether the server issues tokens itself. */
export const issuesTokens = async (): Promise<boolean> => (await devToken("somebody")) !== undefined;

/** Checks the name with the server. */
export async function signInWithName(user: string): Promise<Identity> {
  await devToken(user);
  localStorage.setItem(NAME_KEY, user);
  return { user };
}

/** Reads the user from the token. Only the server verifies it. */
export function signInWithToken(token: string): Identity {
  let user: unknown;
  try {
    const payload = token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    user = (JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown }).sub;
  } catch {
    // Reported below.
  }
  if (typeof user !== "string") throw new Error("That isn't a token. A token has three parts separated by dots and names a user (`sub`).");
  return { user, token };
}

export const lastName = (): string => localStorage.getItem(NAME_KEY) ?? "";

export function recall(): Identity | undefined {
  const stored = sessionStorage.getItem(IDENTITY_KEY);
  return stored === null ? undefined : (JSON.parse(stored) as Identity);
}

export function remember(identity: Identity | undefined): void {
  if (identity) sessionStorage.setItem(IDENTITY_KEY, JSON.stringify(identity));
  else sessionStorage.removeItem(IDENTITY_KEY);
}

export function start({ user, token }: Identity): Session {
  const frames = new Frames();
  const client = new Roomlog(location.origin, {
    token: token ?? (async () => (await devToken(user)) ?? Promise.reject(new Error("the server no longer issues tokens"))),
    // MessagePack is smaller, but the drawer shows JSON.
    encoding: "json",
    WebSocket: frames.Socket,
    outbox: { store: indexedDbOutbox(`roomlog ${user}`) },
  });
  return { user, ...(token !== undefined && { token }), client, joined: new JoinedRooms(user), frames };
}
