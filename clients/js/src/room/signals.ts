// Signals: sent to those present, and delivered from the pushes of a room. A feature, built as the others on the event `push`.
import type { Connection } from "../connection.js";
import { snapshot } from "../data.js";
import type { Emitter } from "../emitter.js";
import type { RoomEvents } from "./types.js";

/** Delivers a room's signals as its event `signal`. */
export function deliverSignals<T>(room: Emitter<RoomEvents<T>>): void {
  room.on("push", (push) => {
    if (push.op !== "signal") return;
    const { op: _, ...signal } = push;
    room.emit("signal", signal);
  });
}

/** Sends a signal. It is lost if there is no connection. */
export function sendSignal(connection: Connection, binary: boolean, room: string, type: string, data: unknown, options: { to?: string }): void {
  connection.tell("signal", { room, type: snapshot(type, false) as string, data: snapshot(data, binary), ...options });
}
