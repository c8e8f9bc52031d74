// Hooks for React: a room as state.
import { createContext, createElement, useCallback, useContext, useEffect, useMemo, useSyncExternalStore } from "react";
import type { ReactNode } from "react";
import type { Roomlog } from "./client.js";
import type { ConnectionState } from "./connection.js";
import type { Data } from "./data.js";
import type { PublishOptions } from "./outbox.js";
import type { Publication } from "./publication.js";
import type { RoomOptions } from "./room/types.js";
import { RoomView } from "./view.js";
import type { RoomSnapshot } from "./view.js";

export type { RoomSnapshot, ShownMessage } from "./view.js";

const Context = createContext<Roomlog | undefined>(undefined);

/** Provides a client to the hooks below it. */
export function RoomlogProvider({ client, children }: { client: Roomlog; children?: ReactNode }): ReactNode {
  return createElement(Context.Provider, { value: client }, children);
}

/** The client of the provider above. */
export function useRoomlog(): Roomlog {
  const client = useContext(Context);
  if (!client) throw new Error("there is no client: put a <RoomlogProvider client={…}> above the components that use hooks of Roomlog");
  return client;
}

/** The state of the client's connection. */
export function useConnection(): ConnectionState {
  const client = useRoomlog();
  const subscribe = useCallback((changed: () => void) => client.on("state", changed), [client]);
  return useSyncExternalStore(subscribe, () => client.state, () => client.state);
}

/** The result of `useRoom`. */
export interface UseRoom<T> extends RoomSnapshot<T> {
  /** Publishes a message. It is in `messages` immediately. */
  publish(data: T, options?: PublishOptions): Publication<T>;
  /** Loads `limit` older messages, 50 by default. Resolves to whether there are more. */
  loadOlder(limit?: number): Promise<boolean>;
  /** Tells the others that this user types, or no longer does. Call it with every key press: it sends only as often as needed. */
  setTyping(typing: boolean): void;
  /** Removes a message that failed or waits to be sent. */
  dismiss(key: string): void;
}

/**
 * Follows a room while the component is mounted.
 *
 * @param options - As for `client.room`. `last` is the number of messages at first, 50 by default.
 */
export function useRoom<T = Data>(name: string, options: RoomOptions = {}): UseRoom<T> {
  const client = useRoomlog();
  const { since, last, durable, autoAck } = options;
  const view = useMemo(
    () => new RoomView<T>(client, name, { since, last, durable, autoAck }),
    [client, name, since, last, durable, autoAck],
  );
  const snapshot = useSyncExternalStore(view.subscribe, view.snapshot, view.snapshot);
  useEffect(() => view.follow(), [view]);
  return useMemo(
    () => ({ ...snapshot, publish: view.publish, loadOlder: view.loadOlder, setTyping: view.setTyping, dismiss: view.dismiss }),
    [snapshot, view],
  );
}
