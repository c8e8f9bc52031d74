// Publishes over REST, as other people of a development server.
import type { Server } from "../../../clients/js/test/harness/server.ts";

async function post(server: Server, user: string, path: string, body: unknown): Promise<unknown> {
  const token = await server.devToken(encodeURIComponent(user));
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const response = await fetch(`${server.url}/v1/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

/** Publishes one message, and returns its id. */
export async function say(server: Server, user: string, room: string, data: unknown, type = "message"): Promise<string> {
  return ((await post(server, user, `rooms/${room}/messages`, { data, type })) as { id: string }).id;
}

/** The size of a batch, within the limit of the server. */
const BATCH = 1000;

/** Publishes `message 1` to `message <count>`. */
export async function fill(server: Server, room: string, count: number): Promise<void> {
  for (let at = 0; at < count; at += BATCH) {
    const size = Math.min(BATCH, count - at);
    await post(server, "mia", "messages", Array.from({ length: size }, (_, i) => ({ room, data: { text: `message ${at + i + 1}` } })));
  }
}
