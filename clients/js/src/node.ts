// The same for Node.js, which has a WebSocket of its own from version 22 on.
import { WebSocket } from "ws";
import { setWebSocket } from "./client.js";

setWebSocket(WebSocket);

export * from "./index.js";
