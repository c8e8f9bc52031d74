// The public API on Node.js, whose own WebSocket came with version 22.
import { WebSocket } from "ws";
import { setWebSocket } from "./client.js";

setWebSocket(WebSocket);

export * from "./index.js";
