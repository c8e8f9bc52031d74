// The server's REST API, for programs that do not follow rooms: publish, read, delete, list, revoke. Every request can be repeated
// without harm, so temporary failures are retried.
import { codecOf } from "../codec.js";
import type { DataOf, TypeOf } from "../content.js";
import { snapshot } from "../data.js";
import type { Data } from "../data.js";
import { RoomlogError } from "../errors.js";
import { messageOf } from "../protocol.js";
import type { HistoryAnswer, HistoryPage } from "../protocol.js";
import type { PublishOptions } from "../outbox.js";
import type { TokenSource } from "../token.js";
import { uuid } from "../uuid.js";
import { ApiRequests } from "./requests.js";

/** Options of the API. */
export interface ApiOptions {
  /** A token, or a function that makes one: called at the start, and before a token expires. */
  token: TokenSource;
  /** Time for an answer, retries included, in milliseconds. Default 20,000. */
  timeout?: number;
  /** A `fetch` other than the platform's. */
  fetch?: typeof fetch;
}

/** A stored message. */
export interface Published {
  id: string;
  key: string;
  /** Whether a message with this key was stored before, which is then the one that `id` names. */
  duplicate: boolean;
}

/** A message of a batch. */
export interface NewMessage extends PublishOptions {
  room: string;
  data: Data;
}

/** What became of a message of a batch. */
export type BatchItem = Published | { error: RoomlogError };

/** Which messages to read: by default the newest. At most one of `before`, `after` and `fromTime`. */
export interface HistoryRange {
  before?: string;
  after?: string;
  fromTime?: Date;
  /** 1 to 1000; 100 if it is missing. */
  limit?: number;
}

/** A durable subscription. */
export interface SubscriptionInfo {
  user: string;
  name: string;
  /** The last acknowledged id. */
  position: string;
  /** The number of messages after it. */
  lag: number;
  /** Whether a connection holds it now. */
  connected: boolean;
}

/** The tokens to revoke: one by its `id`, or those of a user that were issued before a time, by default before now. */
export type Revocation = { id: string; expires?: Date } | { user: string; before?: Date };

/** Limit of the messages in a request. */
const BATCH = 1000;

const codec = codecOf("msgpack");

/** The REST API of a server. */
export class RoomlogApi {
  readonly #requests: ApiRequests;

  /**
   * @param url - The server's address, such as `https://chat.example`.
   */
  constructor(url: string, { token, timeout = 20_000, fetch = globalThis.fetch }: ApiOptions) {
    this.#requests = new ApiRequests(url, token, timeout, codec, fetch);
  }

  /** Publishes a message. The same `key` again stores nothing new. */
  async publish<T = Data, K extends TypeOf<T> = "message" & TypeOf<T>>(
    room: string,
    data: DataOf<T, K>,
    { type, key = uuid() }: PublishOptions<K> = {},
  ): Promise<Published> {
    const body = { data: snapshot(data, true), type, key };
    const { id, duplicate = false } = await this.#requests.read<Published>("POST", `${pathOf(room)}/messages`, body);
    return { id, key, duplicate };
  }

  /** Publishes messages, in order and in few requests. One that fails does not keep the others from being stored. */
  async publishBatch(messages: NewMessage[]): Promise<BatchItem[]> {
    const items: BatchItem[] = [];
    for (let at = 0; at < messages.length; at += BATCH) {
      const batch = messages.slice(at, at + BATCH).map(({ room, data, type, key = uuid() }, i) => {
        return { room, data: snapshot(data, true, `messages[${at + i}].data`), type, key };
      });
      const answers = await this.#requests.read<(Published | { error: { code: string; message: string; retry_after_ms?: number } })[]>("POST", "/v1/messages", batch);
      for (const [i, answer] of answers.entries()) {
        if ("error" in answer) {
          const { code, message, retry_after_ms: retryAfterMs } = answer.error;
          items.push({ error: new RoomlogError(code, message, { retryAfterMs }) });
        } else items.push({ id: answer.id, key: batch[i]!.key, duplicate: answer.duplicate ?? false });
      }
    }
    return items;
  }

  /** Reads a part of a room's history. */
  async history<T = Data>(room: string, { before, after, fromTime, limit = 100 }: HistoryRange = {}): Promise<HistoryPage<T>> {
    const query = new URLSearchParams({ limit: String(limit) });
    if (before !== undefined) query.set("before", before);
    if (after !== undefined) query.set("after", after);
    if (fromTime !== undefined) query.set("from_time", String(fromTime.getTime()));
    const isNewest = query.size === 1;
    if (isNewest) query.set("order", "desc");
    const { messages, more, head, gap } = await this.#requests.read<HistoryAnswer<any>>("GET", `${pathOf(room)}/messages?${query}`);
    if (isNewest) messages.reverse();
    const page: HistoryPage<any> = { messages: messages.map(messageOf), more, head, ...(gap && { gap }) };
    return page;
  }

  /** Deletes a message. Readers that reach its place get a `gap`, and pages that show it are told. Needs `manage`. */
  async deleteMessage(room: string, id: string): Promise<void> {
    await this.#requests.delete(`${pathOf(room)}/messages/${encodeURIComponent(id)}`);
  }

  /** Deletes a room with its messages and subscriptions. Needs `manage`. */
  async deleteRoom(room: string): Promise<void> {
    await this.#requests.delete(pathOf(room));
  }

  /** Lists the names of all rooms, or those that match a pattern such as `chat.*`. Needs `manage` on `*`. */
  async *rooms({ match }: { match?: string } = {}): AsyncGenerator<string, void, undefined> {
    for (let cursor: string | null = ""; cursor !== null; ) {
      const query = new URLSearchParams({ ...(match !== undefined && { match }), ...(cursor && { cursor }) });
      const page: { rooms: string[]; cursor: string | null } = await this.#requests.read("GET", `/v1/rooms?${query}`);
      yield* page.rooms;
      cursor = page.cursor;
    }
  }

  /** Lists the durable subscriptions of a room. Some may come twice while others come and go. */
  async *subscriptions(room: string): AsyncGenerator<SubscriptionInfo, void, undefined> {
    for (let path: string | undefined = `${pathOf(room)}/subscriptions`; path !== undefined; ) {
      const { value, next }: { value: SubscriptionInfo[]; next: string | undefined } = await this.#requests.page("GET", path);
      yield* value;
      path = next;
    }
  }

  /** Revokes tokens, and closes the connections that they opened. Needs `manage` on `*`. */
  async revoke(revocation: Revocation): Promise<void> {
    const body =
      "id" in revocation
        ? { jti: revocation.id, expires: secondsOf(revocation.expires) }
        : { user: revocation.user, before: secondsOf(revocation.before) };
    await this.#requests.done("POST", "/v1/revocations", body);
  }
}

const pathOf = (room: string): string => `/v1/rooms/${encodeURIComponent(room)}`;

const secondsOf = (time: Date | undefined): number | undefined => time && Math.floor(time.getTime() / 1000);
