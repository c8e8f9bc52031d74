// The client: one connection, the rooms on it, and the outbox. Applications begin here.
import type { MessageCache } from "./cache.js";
import { codecOf } from "./codec.js";
import type { Encoding } from "./codec.js";
import { Connection } from "./connection.js";
import type { ConnectionState, Timing } from "./connection.js";
import { Emitter } from "./emitter.js";
import { RoomlogError } from "./errors.js";
import { Outbox } from "./outbox.js";
import type { PublishOptions } from "./outbox.js";
import type { AnySignals } from "./content.js";
import type { Data } from "./data.js";
import type { Publication } from "./publication.js";
import type { Room } from "./room/room.js";
import { Rooms } from "./room/rooms.js";
import type { RoomOptions } from "./room/types.js";
import { memoryPositions } from "./stores.js";
import type { OutboxStore, PositionStore } from "./stores.js";
import { Tokens } from "./token.js";
import type { TokenSource } from "./token.js";
import type { Environment, TransportKind } from "./transport/transport.js";

/** Options of a client. */
export interface RoomlogOptions {
  /** A token, or a function that fetches one: called at the start, before a token expires, and after the server refused one as expired. */
  token: TokenSource;
  /** `msgpack` by default. */
  encoding?: Encoding;
  /** The store of positions, from which a reload resumes. In memory by default; see `webPositions`. */
  positions?: PositionStore;
  /** The messages that rooms showed last, with which `useRoom` begins. None by default; see `indexedDbCache`. */
  cache?: MessageCache;
  /** The messages that are not confirmed yet. */
  outbox?: {
    /** Their store. In memory by default; see `indexedDbOutbox`. */
    store?: OutboxStore;
    /** Their limit, 1000 by default; publishing more fails with `outbox_full`. */
    limit?: number;
  };
  /** The transports that may be used, in this order. All by default: `websocket`, `sse`, `polling`. */
  transports?: TransportKind[];
  /** Times that suit tests, or unusual networks. */
  timing?: Partial<Timing>;
  /** A WebSocket class, where the platform has none. */
  WebSocket?: unknown;
  /** A `fetch` other than the platform's. */
  fetch?: typeof fetch;
}

/** The events of a client. */
export interface RoomlogEvents {
  /** The connection's state. */
  state: ConnectionState;
  /** An error that no call waits for: of a token function, a store, a handler, or a refusal. */
  error: RoomlogError;
  /** A message of this client changed its state. */
  publication: Publication;
}

const TIMING: Timing = { backoffMin: 500, backoffMax: 20_000, backoffMaxVisible: 5_000, connect: 10_000, probe: 2_000 };

/** Loads a WebSocket class where the platform has none. */
let loadWebSocket: (() => Promise<unknown>) | undefined;

/** Sets the source of a WebSocket class where the platform has none. */
export function setWebSocket(load: () => Promise<unknown>): void {
  loadWebSocket = load;
}

/** A client of one server, for one user. Connects when it is first needed. */
export class Roomlog extends Emitter<RoomlogEvents> {
  readonly #connection: Connection;
  readonly #outbox: Outbox;
  readonly #rooms: Rooms;
  /** @internal */
  readonly cache: MessageCache | undefined;
  readonly #offs: (() => void)[] = [];

  /**
   * @param url - The server's WebSocket, such as `wss://chat.example/v1/ws`; `https://chat.example` means the same.
   */
  constructor(url: string, options: RoomlogOptions) {
    super();
    const { encoding = "msgpack", token, outbox = {}, positions = memoryPositions() } = options;
    this.cache = options.cache;
    const { socketUrl, httpUrl } = addresses(url);
    const own = options.WebSocket ?? globalThis.WebSocket;
    const load = own ? () => own : loadWebSocket;
    const kinds = (options.transports ?? ["websocket", "sse", "polling"]).filter((kind) => kind !== "websocket" || load);
    if (kinds.length === 0) {
      throw new RoomlogError("bad_request", "none of the `transports` works on this platform: add `sse` or `polling`, or pass a `WebSocket`");
    }
    const doFetch = options.fetch ?? ((...args: Parameters<typeof fetch>) => fetch(...args));
    const environment = { socketUrl, httpUrl, codec: codecOf(encoding), fetch: doFetch, loadWebSocket: load as Environment["loadWebSocket"] };
    this.#connection = new Connection(environment, kinds, new Tokens(token), { ...TIMING, ...options.timing });
    this.#outbox = new Outbox(outbox.store, outbox.limit ?? 1000, encoding === "msgpack", this.#connection, {
      reader: (room) => this.#rooms.reader(room),
      changed: (publication) => {
        this.#rooms.published(publication);
        this.emit("publication", publication);
        if (publication.state === "sending") this.#connection.connect();
      },
      failed: (error) => this.emit("error", error),
    });
    const context = { connection: this.#connection, outbox: this.#outbox, positions, binary: encoding === "msgpack" };
    this.#rooms = new Rooms(context, (error) => this.emit("error", error));
    this.#connection.on("up", () => {
      this.#rooms.up();
      this.#outbox.kick();
    });
    this.#connection.on("down", () => this.#rooms.down());
    this.#connection.on("push", (push) => this.#rooms.push(push));
    this.#connection.on("state", (state) => {
      if (state === "closed") this.#outbox.close(this.#connection.reason);
      this.emit("state", state);
    });
    this.#connection.on("error", (error) => this.emit("error", error));
    this.#listen();
  }

  /** The connection's state. */
  get state(): ConnectionState {
    return this.#connection.state;
  }

  /**
   * Why there is no connection: the server's reason where it gave one. Undefined while there is a connection, and before the first
   * attempt has failed.
   */
  get error(): RoomlogError | undefined {
    return this.#connection.error;
  }

  /** The time of the next attempt to connect, while the state is `waiting` for it. `wake()` tries at once. */
  get retryAt(): Date | undefined {
    return this.#connection.retryAt;
  }

  /** The transport in use. */
  get transport(): TransportKind {
    return this.#connection.transportKind;
  }

  /** The user whom the token names, once connected. */
  get user(): string | undefined {
    return this.#connection.user;
  }

  /**
   * Returns a room. The same name and start give the same object, until it is closed. Objects with other starts read beside it: each
   * has the messages from its own start on, and all share one subscription of the server.
   */
  room<T = Data, S extends object = AnySignals>(name: string, options: RoomOptions = {}): Room<T, S> {
    return this.#rooms.open(name, options);
  }

  /** @internal The unconfirmed messages to a room. */
  pending(room: string): Publication<any>[] {
    return this.#outbox.waiting(room);
  }

  /** @internal Publishes in a room that need not be open. */
  publish<T>(room: string, data: T, options?: PublishOptions): Publication<T> {
    return this.#outbox.publish(room, data, options);
  }

  /** @internal Returns another object for a room, whose position is not stored. */
  openAnother<T>(name: string, options: RoomOptions): Room<T> {
    return this.#rooms.openAnother(name, options);
  }

  /** Connects now, instead of when it is first needed. */
  connect(): void {
    this.#connection.connect();
  }

  /**
   * Connects at once if the client waits to do so. Checks a connection, and replaces it if it is dead. Browsers do so when the page is shown or the device comes online;
   * call it where the platform reports that in another way, as React Native's `AppState`.
   */
  wake(): void {
    this.#connection.wake(true);
  }

  /** Ends the client. Unconfirmed messages stay in the store of the outbox, if it has one. */
  close(): void {
    for (const off of this.#offs.splice(0)) off();
    this.#rooms.close();
    this.#connection.close();
  }

  /** Checks the connection when the network changes or the page is shown. */
  #listen(): void {
    const { addEventListener, document } = globalThis as Partial<typeof globalThis>;
    const add = (target: EventTarget, event: string, run: () => void): void => {
      target.addEventListener(event, run);
      this.#offs.push(() => target.removeEventListener(event, run));
    };
    if (addEventListener && typeof window !== "undefined") {
      add(window, "online", () => this.#connection.wake(true));
      add(window, "offline", () => this.#connection.wake(false));
    }
    if (document) add(document, "visibilitychange", () => document.visibilityState === "visible" && this.#connection.wake(false));
  }
}

/** Returns both addresses of a server, from either. */
function addresses(url: string): { socketUrl: string; httpUrl: string } {
  const match = /^(?:ws|http)(s?):\/\/([^/?#]+)(.*?)(?:\/v1\/ws)?\/?$/.exec(url);
  if (!match) throw new RoomlogError("bad_request", `${url} is not the address of a server: use one such as wss://chat.example/v1/ws`);
  const [, secure, host, path] = match;
  return { socketUrl: `ws${secure}://${host}${path}/v1/ws`, httpUrl: `http${secure}://${host}${path}` };
}
