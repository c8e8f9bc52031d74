// What all peers written in JavaScript share: where they listen, what they then say, how they end.

import { createServer } from "node:http";

/** As many connections wait to be accepted as Roomlog lets wait. */
const BACKLOG = 4096;

/** Makes the HTTP server of a peer, which listens once the peer has made it ready. */
export function serve(dialect, ready) {
  const server = createServer((_, response) => response.writeHead(426).end());
  ready(server);
  server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", BACKLOG, () => {
    console.log(`listening on http://127.0.0.1:${server.address().port} speaking ${dialect}`);
  });
  process.on("SIGTERM", () => process.exit(0));
}

export const redisUrl = process.env.REDIS_URL ?? "redis://127.0.0.1:6379";
