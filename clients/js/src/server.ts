// The entry point `@roomlog/client/server`, for an application's own server: tokens for its users, and the server's REST API.
export { RoomlogError } from "./errors.js";
export type { ErrorCode } from "./errors.js";
export { RoomlogApi } from "./server/api.js";
export type { ApiOptions, BatchItem, HistoryRange, NewMessage, Published, Revocation, SubscriptionInfo } from "./server/api.js";
export { signToken } from "./server/tokens.js";
export type { Permission, SigningKey, TokenOptions } from "./server/tokens.js";
