// The signed-in user: a name, for which a server in development issues tokens, or a pasted token. It lasts as long as the tab, so two
// tabs can belong to two users; the installed app remembers it.
import { Roomlog, indexedDbOutbox } from "@roomlog/client";
import { indexedDbCache } from "@roomlog/client/cache";
import { Frames } from "./frames.ts";
import { readToken } from "./grants.ts";
import type { Grants } from "./grants.ts";
import { JoinedRooms } from "./joined-rooms.ts";
import { People } from "./people.ts";

export interface Identity {
  user: string;
  /** Missing if the server issues tokens itself. */
  token?: string;
}

/** Everything that belongs to a signed-in user. */
export interface Session {
  user: string;
  client: Roomlog;
  joined: JoinedRooms;
  people: People;
  frames: Frames;
  /** What the current token grants; `undefined` before the first one. */
  grants(): Grants | undefined;
  /** Forgets the messages that this browser keeps for reading offline. */
  forget(): Promise<void>;
  /** Deletes a message for everyone. Needs `manage`. */
  deleteMessage(room: string, id: string): Promise<void>;
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

/** Whether the server issues tokens itself. Rejects if it cannot be reached. */
export const issuesTokens = async (): Promise<boolean> => (await devToken("somebody")) !== undefined;

/** Checks the name with the server. Somebody who was here before can go on without it. */
export async function signInWithName(user: string): Promise<Identity> {
  try {
    await devToken(user);
  } catch (error) {
    if (!(error instanceof TypeError) || user !== lastName()) throw error;
  }
  localStorage.setItem(NAME_KEY, user);
  return { user };
}

/** Reads the user from the token. Only the server verifies it. */
export function signInWithToken(token: string): Identity {
  const user = readToken(token)?.user;
  if (user === undefined) throw new Error("That isn't a token. A token has three parts separated by dots and names a user (`sub`).");
  return { user, token };
}

/** The last user who signed in by name. */
export const lastName = (): string => localStorage.getItem(NAME_KEY) ?? "";

/** A tab has an identity of its own; the installed app has one window, and keeps it. */
const storage = (): Storage => (matchMedia("(display-mode: standalone)").matches ? localStorage : sessionStorage);

export function recall(): Identity | undefined {
  const stored = storage().getItem(IDENTITY_KEY);
  return stored === null ? undefined : (JSON.parse(stored) as Identity);
}

export function remember(identity: Identity | undefined): void {
  if (identity) storage().setItem(IDENTITY_KEY, JSON.stringify(identity));
  else storage().removeItem(IDENTITY_KEY);
}

export function start({ user, token: given }: Identity): Session {
  let current = given;
  const fetchToken = async (): Promise<string> => {
    const token = await devToken(user);
    if (token === undefined) throw new Error("the server no longer issues tokens");
    return (current = token);
  };
  const frames = new Frames();
  const cache = indexedDbCache(`roomlog messages ${user}`);
  const client = new Roomlog(location.origin, {
    token: given ?? fetchToken,
    // MessagePack is smaller, but the drawer shows JSON.
    encoding: "json",
    WebSocket: frames.Socket,
    outbox: { store: indexedDbOutbox(`roomlog ${user}`) },
    cache,
  });
  return {
    user,
    client,
    joined: new JoinedRooms(user),
    people: new People(user),
    frames,
    grants: () => (current === undefined ? undefined : readToken(current)),
    forget: () => cache.clear(),
    deleteMessage: (room, id) => deleteMessage(room, id, current),
  };
}

async function deleteMessage(room: string, id: string, token: string | undefined): Promise<void> {
  const response = await fetch(`/v1/rooms/${room}/messages/${id}`, { method: "DELETE", headers: { authorization: `Bearer ${token}` } });
  // Deleted already is as good.
  if (!response.ok && response.status !== 404) throw new Error(((await response.json()) as { detail: string }).detail);
}
