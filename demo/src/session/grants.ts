// What the user's token allows, read from the token. Only the server decides: this hides what it would refuse.

export type Permission = "read" | "write" | "manage";

export interface Grants {
  /** The user whom the token names. */
  user: string;
  /** The permissions for each pattern of rooms. */
  rooms: Record<string, Permission[]>;
}

/** Reads a token; `undefined` if it is not one. */
export function readToken(token: string): Grants | undefined {
  try {
    const payload = token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    const { sub, rooms = {} } = JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown; rooms?: Grants["rooms"] };
    return typeof sub === "string" ? { user: sub, rooms } : undefined;
  } catch {
    return undefined;
  }
}

/** Tells whether one of the patterns that match a room has the permission. A `*` stands for any characters. */
export function may(grants: Grants | undefined, permission: Permission, room: string): boolean {
  return Object.entries(grants?.rooms ?? {}).some(([pattern, permissions]) => permissions.includes(permission) && matches(pattern, room));
}

function matches(pattern: string, room: string): boolean {
  const parts = pattern.split("*").map((part) => part.replace(/[.\\^$+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`).test(room);
}
