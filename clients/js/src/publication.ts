// An unconfirmed message: an object to show, and a promise of the message's id.
import type { Data } from "./data.js";
import { RoomlogError } from "./errors.js";
import type { OutboxEntry } from "./stores.js";

/** `sending`: waits, or is being sent. `sent`: stored. `failed`: refused, see `error`. `cancelled`: withdrawn before it was sent. */
export type PublicationState = "sending" | "sent" | "failed" | "cancelled";

/** The outbox, as its messages use it. */
interface Owner {
  cancel(publication: Publication<any>): boolean;
  changed(publication: Publication<any>): void;
}

/** A published message. Awaiting it gives the message's id, once the server has confirmed that it is stored. */
export class Publication<T = Data> implements Promise<string> {
  /** The message's UUID. The message that comes back through the room has the same. */
  readonly key: string;
  /** The room's name. */
  readonly room: string;
  /** The message's type. */
  readonly type: string;
  #settled: PublicationState = "sending";
  #resolve!: (id: string) => void;
  #reject!: (error: RoomlogError) => void;
  readonly #promise: Promise<string>;
  #confirmedId: string | undefined;
  #failure: RoomlogError | undefined;

  readonly #outbox: Owner;

  /** @internal */
  constructor(
    /** @internal */
    readonly entry: OutboxEntry,
    outbox: Owner,
  ) {
    this.#outbox = outbox;
    ({ key: this.key, room: this.room, type: this.type } = entry);
    this.#promise = new Promise((resolve, reject) => ([this.#resolve, this.#reject] = [resolve, reject]));
    // Without an `await`, a failure shows in the state, and is not an unhandled rejection.
    this.#promise.catch(() => {});
  }

  /** The content, as it was when it was published. */
  get data(): T {
    return this.entry.data as T;
  }

  /** Whether the message is confirmed. */
  get state(): PublicationState {
    return this.#settled;
  }

  /** The message's id, once it is `sent`. */
  get id(): string | undefined {
    return this.#confirmedId;
  }

  /** Why it `failed`. */
  get error(): RoomlogError | undefined {
    return this.#failure;
  }

  /** Makes the publication a promise of the id. */
  then<A = string, B = never>(
    fulfilled?: ((id: string) => A | PromiseLike<A>) | null,
    rejected?: ((error: RoomlogError) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#promise.then(fulfilled, rejected);
  }

  /** Handles a failure, as `then` does with its second argument. */
  catch<B = never>(rejected?: ((error: RoomlogError) => B | PromiseLike<B>) | null): Promise<string | B> {
    return this.#promise.catch(rejected);
  }

  /** Runs something when the publication is sent, has failed or is cancelled. */
  finally(settled?: (() => void) | null): Promise<string> {
    return this.#promise.finally(settled);
  }

  get [Symbol.toStringTag](): string {
    return "Publication";
  }

  /** Withdraws the message, if it has not been sent. Otherwise returns false: it may be stored already. */
  cancel(): boolean {
    return this.#outbox.cancel(this);
  }

  /** @internal */
  settle(outcome: string | RoomlogError): void {
    if (this.#settled !== "sending") return;
    if (typeof outcome === "string") {
      this.#settled = "sent";
      this.#confirmedId = outcome;
      this.#resolve(outcome);
    } else {
      this.#settled = outcome.code === "cancelled" ? "cancelled" : "failed";
      this.#failure = outcome;
      this.#reject(outcome);
    }
    this.#outbox.changed(this);
  }
}
