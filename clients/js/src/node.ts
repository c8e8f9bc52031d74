// The public API on Node.js. Only versions before 22 need the package `ws`: later ones have a WebSocket of their own.
import { setWebSocket } from "./client.js";
import { RoomlogError } from "./errors.js";

setWebSocket(async () => {
  try {
    return (await import("ws")).WebSocket;
  } catch (cause) {
    throw new RoomlogError("application", "this version of Node.js has no WebSocket: install the package `ws`, or use Node.js 22 or newer", { cause });
  }
});

export * from "./index.js";
