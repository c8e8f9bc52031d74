// Durable subscriptions over HTTP: one request takes a subscription, others acknowledge.
import { RoomlogError, isTemporary } from "../errors.js";
import type { Start, Subscribed } from "../protocol.js";
import type { Follower, Following } from "./following.js";
import { pathOf } from "./requests.js";

/** Pause before an acknowledgement is repeated, unless the server names one. */
const PAUSE_MS = 1000;

/** A taken subscription. `holder` proves that this client holds it. */
type Taken = Pick<Subscribed, "position" | "head"> & { holder: string };

export class DurableSubscriptions {
  readonly #follower: Follower;
  /** The last request for the subscription of each room. */
  readonly #takes = new Map<string, Promise<unknown>>();

  constructor(follower: Follower) {
    this.#follower = follower;
  }

  /** Takes a subscription. One request at a time, lest an older one arrive later and take it from the newer. */
  take({ room, durable, since, last }: Start): Promise<Taken> {
    const { requests } = this.#follower;
    const take = () => requests.read<Taken>(`${pathOf(room)}/subscriptions`, requests.posting({ durable, since, last }));
    const taken = (this.#takes.get(room) ?? Promise.resolve()).then(take, take);
    this.#takes.set(room, taken);
    return taken;
  }

  /** Acknowledges up to `id`. One request of a room at a time, each with the newest id. */
  async acknowledge(following: Following | undefined, id: string): Promise<void> {
    if (!following?.held) return;
    following.acked = id;
    if (following.acking) return;
    following.acking = true;
    const { requests } = this.#follower;
    // Acknowledgements outlast the transport: a client that is closed right afterwards has acknowledged all the same.
    const init = { keepalive: true, abort: new AbortController().signal };
    try {
      while (following.acked !== undefined) {
        const { room, held, acked } = following;
        following.acked = undefined;
        try {
          await requests.done(`${pathOf(room)}/acks`, { ...requests.posting({ ...held, id: acked }), ...init });
        } catch (error) {
          if (this.endIfLost(following, error)) return;
          if (!(error instanceof RoomlogError && isTemporary(error)) || requests.over.aborted) throw error;
          following.acked ??= acked;
          await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? PAUSE_MS));
        }
      }
    } finally {
      following.acking = false;
    }
  }

  /** Stops following a room if an error means that another client has taken the subscription. Returns whether it does. */
  endIfLost({ room, control }: Following, error: unknown): boolean {
    if (!(error instanceof RoomlogError && error.code === "not_subscribed")) return false;
    if (!control.signal.aborted) this.#follower.emit({ op: "unsubscribed", room, code: "replaced", message: error.message });
    control.abort();
    return true;
  }
}
