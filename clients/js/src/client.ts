// The client: one connection, the rooms on it, and the outbox. Applications begin here.
import { codecOf } from "./codec.js";
import type { Encoding } from "./codec.js";
import { Connection } from "./connection.js";
import type { ConnectionState, Timing } from "./connection.js";
import { Emitter } from "./emitter.js";
import { RoomlogError } from "./errors.js";
import { Outbox } from "./outbox.js";
import type { Data } from "./data.js";
import type { Publication } from "./publication.js";
import { isRoomName } from "./room/names.js";
import { Room } from "./room/room.js";
import type { RoomContext, RoomOptions } from "./room/types.js";
import { memoryPositions } from "./stores.js";
import type { OutboxStore, PositionStore } from "./stores.js";
import { Tokens } from "./token.js";
import type { TokenSource } from "./token.js";
import type { TransportKind } from "./transport/transport.js";

/** Options of a client. */
export interface RoomlogOptions {
  /** A token, or a function that fetches one: called at the start, before a token expires, and after the server refused one as expired. */
  token: TokenSource;
  /** `msgpack` by default. */
  encoding?: Encoding;
  /** The store of positions, from which a reload resumes. In memory by default; see `webPositions`. */
  positions?: PositionStore;
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

const TIMING: Timing = { backoffMin: 500, backoffMax: 20_000, connect: 10_000, probe: 2_000 };

const platform: { WebSocket: unknown } = { WebSocket: globalThis.WebSocket };

/** Sets the WebSocket class of clients where the platform has none. */
export function setWebSocket(WebSocket: unknown): void {
  platform.WebSocket ??= WebSocket;
}

/** A client of one server, for one user. Connects when it is first needed. */
export class Roomlog extends Emitter<RoomlogEvents> {
  readonly #connection: Connection;
  readonly #outbox: Outbox;
  /** The application decides on the type of a message's content. */
  readonly #rooms = new Map<string, Room<any>>();
  readonly #context: RoomContext;
  readonly #offs: (() => void)[] = [];

  /**
   * @param url - The server's WebSocket, such as `wss://chat.example/v1/ws`; `https://chat.example` means the same.
   */
  constructor(url: string, options: RoomlogOptions) {
    super();
    const { encoding = "msgpack", token, outbox = {}, positions = memoryPositions() } = options;
    const { socketUrl, httpUrl } = addresses(url);
    const WebSocket = (options.WebSocket ?? platform.WebSocket) as typeof globalThis.WebSocket | undefined;
    const kinds = (options.transports ?? ["websocket", "sse", "polling"]).filter((kind) => kind !== "websocket" || WebSocket);
    if (kinds.length === 0) {
      throw new RoomlogError("bad_request", "none of the `transports` works on this platform: add `sse` or `polling`, or pass a `WebSocket`");
    }
    const doFetch = options.fetch ?? ((...args: Parameters<typeof fetch>) => fetch(...args));
    const environment = { socketUrl, httpUrl, codec: codecOf(encoding), fetch: doFetch, WebSocket };
    this.#connection = new Connection(environment, kinds, new Tokens(token), { ...TIMING, ...options.timing });
    this.#outbox = new Outbox(outbox.store, outbox.limit ?? 1000, encoding === "msgpack", this.#connection, {
      reader: (room) => this.#rooms.get(room),
      changed: (publication) => {
        this.#rooms.get(publication.room)?.emit("publication", publication);
        this.emit("publication", publication);
        if (publication.state === "sending") this.#connection.connect();
      },
      failed: (error) => this.emit("error", error),
    });
    this.#context = {
      connection: this.#connection,
      outbox: this.#outbox,
      positions,
      binary: encoding === "msgpack",
      closed: (room) => void this.#rooms.delete(room),
    };
    this.#connection.on("up", () => {
      for (const room of this.#rooms.values()) room.up();
      this.#outbox.kick();
    });
    this.#connection.on("down", () => {
      for (const room of this.#rooms.values()) room.down();
    });
    this.#connection.on("push", (push) => this.#rooms.get(push.room)?.push(push));
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

  /** The transport in use. */
  get transport(): TransportKind {
    return this.#connection.transportKind;
  }

  /** The user whom the token names, once connected. */
  get user(): string | undefined {
    return this.#connection.user;
  }

  /**
   * Returns a room. The same name gives the same object, until it is closed. Options may be left out; passing other options once
   * the room is followed is an error.
   */
  room<T = Data>(name: string, options?: RoomOptions): Room<T> {
    const known = this.#rooms.get(name);
    if (known && options && !same(known.options, options)) {
      if (known.position !== undefined || known.state !== "idle") {
        throw new RoomlogError("bad_request", `the room ${name} is open with other options: close it before you open it with new ones`);
      }
      known.options = { ...options };
    }
    if (known) return known;
    if (!isRoomName(name)) {
      const rule = "use 1 to 128 of A-Z a-z 0-9 . _ : @ - and begin with a letter, a digit or @";
      throw new RoomlogError("bad_request", `${JSON.stringify(name)} is not a valid room name: ${rule}`);
    }
    const room = new Room<T>(name, { ...options }, this.#context);
    room.on("error", (error) => this.emit("error", error));
    this.#rooms.set(name, room);
    return room;
  }

  /** Connects now, instead of when it is first needed. */
  connect(): void {
    this.#connection.connect();
  }

  /**
   * Checks the connection now, and replaces it if it is dead. Browsers do so when the page is shown or the device comes online;
   * call it where the platform reports that in another way, as React Native's `AppState`.
   */
  wake(): void {
    this.#connection.wake(true);
  }

  /** Ends the client. Unconfirmed messages stay in the store of the outbox, if it has one. */
  close(): void {
    for (const off of this.#offs.splice(0)) off();
    for (const room of [...this.#rooms.values()]) room.close();
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

function same(a: RoomOptions, b: RoomOptions): boolean {
  const { since, last, durable, autoAck } = a;
  return since === b.since && last === b.last && durable === b.durable && autoAck === b.autoAck;
}
