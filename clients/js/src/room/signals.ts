// Signals: sent to the users who are present, and delivered through the event `push`, as every feature on a room's pushes.
import { snapshot } from "../data.js";
import type { Emitter } from "../emitter.js";
import type { RoomContext, RoomEvents } from "./types.js";

/** The room, as sending uses it. */
export interface Sender {
  readonly name: string;
  readonly context: RoomContext;
}

/** Delivers a room's signals as its event `signal`, and those of the server itself as events of their own. */
export function deliverSignals(room: Emitter<RoomEvents<any, any>>): void {
  room.on("push", (push) => {
    if (push.op !== "signal") return;
    const { op: _, sys, ...signal } = push;
    if (!sys) return room.emit("signal", signal);
    const { room: name, from: by, type, data } = signal;
    if (type === "$deleted") room.emit("deleted", { room: name, id: (data as { id: string }).id, by });
  });
}

/** Sends a signal. It is lost if there is no connection. */
export function sendSignal(room: Sender, type: string, data: unknown, options: { to?: string }): void {
  const { binary, connection } = room.context;
  connection.tell("signal", { room: room.name, type: snapshot(type, false) as string, data: snapshot(data, binary), ...options });
}
