"use client";
// Hooks for React: a room as state.
import { createContext, createElement, useContext, useEffect, useMemo, useSyncExternalStore } from "react";
import type { ReactNode } from "react";
import type { Roomlog } from "./client.js";
import { ConnectionView } from "./connection-view.js";
import type { Connection } from "./connection-view.js";
import type { DataOf, TypeOf } from "./content.js";
import type { Data } from "./data.js";
import type { PublishOptions } from "./outbox.js";
import type { Publication } from "./publication.js";
import type { RoomOptions } from "./room/types.js";
import { RoomView } from "./view.js";
import type { RoomSnapshot } from "./view.js";

export type { Connection } from "./connection-view.js";
export type { ShownMessage } from "./message-list.js";
export type { RoomSnapshot } from "./view.js";

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

/**
 * The state of the client's connection. While it waits to connect again, `retryIn` counts the seconds, and `retry()` connects at once.
 */
export function useConnection(): Connection {
  const client = useRoomlog();
  const view = useMemo(() => new ConnectionView(client), [client]);
  return useSyncExternalStore(view.subscribe, view.snapshot, view.snapshot);
}

/** The result of `useRoom`. */
export interface UseRoom<T> extends RoomSnapshot<T> {
  /** Publishes a message. It is in `messages` immediately. */
  publish<K extends TypeOf<T> = "message" & TypeOf<T>>(data: DataOf<T, K>, options?: PublishOptions<K>): Publication<DataOf<T, K>>;
  /** Loads `limit` older messages, 50 by default. Resolves to whether there are more. */
  loadOlder(limit?: number): Promise<boolean>;
  /** Tells the others that this user types, or no longer does. Call it with every key press: it sends only as often as needed. */
  setTyping(typing: boolean): void;
  /** Removes a message that failed or waits to be sent. */
  dismiss(key: string): void;
  /** Follows the room again after the server ended it. */
  resume(): void;
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
    () => {
      const { publish, loadOlder, setTyping, dismiss, resume } = view;
      return { ...snapshot, publish, loadOlder, setTyping, dismiss, resume };
    },
    [snapshot, view],
  );
}
