// The state of the connection as a page shows it, with a countdown to the next attempt. Behind `useConnection`, without React.
import type { Roomlog } from "./client.js";
import type { ConnectionState } from "./connection.js";
import type { RoomlogError } from "./errors.js";

/** The connection at one moment. */
export interface Connection {
  state: ConnectionState;
  /** Why there is no connection, in the server's words where it gave a reason. */
  error: RoomlogError | undefined;
  /** Seconds until the next attempt, while it waits for that. */
  retryIn: number | undefined;
  /** Connects at once. */
  retry: () => void;
}

export class ConnectionView {
  readonly #client: Roomlog;
  readonly #retry = (): void => this.#client.wake();
  #shown: Connection;

  constructor(client: Roomlog) {
    this.#client = client;
    this.#shown = this.#show();
  }

  readonly snapshot = (): Connection => this.#shown;

  readonly subscribe = (listener: () => void): (() => void) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const update = (): void => {
      clearTimeout(timer);
      this.#shown = this.#show();
      listener();
      const left = this.#left;
      // The next full second.
      if (left) timer = setTimeout(update, left % 1000 || 1000);
    };
    const off = this.#client.on("state", update);
    // The state may have changed since the first snapshot.
    update();
    return () => {
      off();
      clearTimeout(timer);
    };
  };

  /** Milliseconds until the next attempt. */
  get #left(): number | undefined {
    const { retryAt } = this.#client;
    return retryAt && Math.max(0, retryAt.getTime() - Date.now());
  }

  #show(): Connection {
    const { state, error } = this.#client;
    const left = this.#left;
    return { state, error, retryIn: left === undefined ? undefined : Math.ceil(left / 1000), retry: this.#retry };
  }
}
