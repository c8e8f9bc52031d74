// The public API of the package.
export { Roomlog } from "./client.js";
export type { RoomlogEvents, RoomlogOptions } from "./client.js";
export type { Encoding } from "./codec.js";
export type { ConnectionState, Timing } from "./connection.js";
export type { Data } from "./data.js";
export type { Off } from "./emitter.js";
export { RoomlogError } from "./errors.js";
export type { ErrorCode } from "./errors.js";
export type { PublishOptions } from "./outbox.js";
export { compareIds } from "./ids.js";
export type { Gap, HistoryPage, HistoryQuery, Message, Signal } from "./protocol.js";
export type { Publication, PublicationState } from "./publication.js";
export type { Room } from "./room/room.js";
export type { RoomEvents, RoomOptions, RoomState, Unsubscribed } from "./room/types.js";
export { indexedDbOutbox, memoryPositions, webPositions } from "./stores.js";
export type { OutboxEntry, OutboxStore, PositionStore } from "./stores.js";
export type { TokenSource } from "./token.js";
export type { TransportKind } from "./transport/transport.js";
