// The stores of positions and unconfirmed messages: in memory, in the browser's storage, where they outlive a reload, or an
// application's own.
import type { Data } from "./data.js";

/** A store of the position up to which each room was handled. Any method may be asynchronous. */
export interface PositionStore {
  get(name: string): string | null | undefined | Promise<string | null | undefined>;
  set(name: string, id: string): void | Promise<void>;
  delete(name: string): void | Promise<void>;
}

/** An unconfirmed message, as it is stored. */
export interface OutboxEntry {
  key: string;
  room: string;
  type: string;
  data: Data;
  /** Orders the messages. */
  n: number;
  /** Whether it may have reached the server. */
  attempted: boolean;
  /** The position of the room before the first attempt, where it is known. */
  after?: string;
}

/** A store of unconfirmed messages. `put` replaces the entry with the same key. Any method may be asynchronous. */
export interface OutboxStore {
  /** Returns the entries that earlier clients left. Called once. */
  load(): OutboxEntry[] | Promise<OutboxEntry[]>;
  put(entry: OutboxEntry): void | Promise<void>;
  delete(key: string): void | Promise<void>;
}

/** Keeps positions in memory, as long as the client lasts. */
export function memoryPositions(): PositionStore {
  const ids = new Map<string, string>();
  return {
    get: (name) => ids.get(name),
    set: (name, id) => void ids.set(name, id),
    delete: (name) => void ids.delete(name),
  };
}

/**
 * Keeps positions in `localStorage`, which all tabs share, or in `sessionStorage`, where each tab has its own. Use another prefix
 * for each user of a browser.
 */
export function webPositions(storage: Storage = localStorage, prefix = "roomlog:"): PositionStore {
  return {
    get: (name) => storage.getItem(prefix + name),
    set: (name, id) => storage.setItem(prefix + name, id),
    delete: (name) => storage.removeItem(prefix + name),
  };
}

/**
 * Keeps unconfirmed messages in IndexedDB. Tabs share the database, not the messages: those of a tab that has ended are adopted by
 * the next tab that opens, or by the same one after a reload. Use another name for each user of a browser.
 */
export function indexedDbOutbox(name = "roomlog"): OutboxStore {
  const mine = Math.random().toString(36).slice(2);
  const lockName = (owner: string): string => `${name}:${owner}`;
  let opened: Promise<IDBDatabase> | undefined;
  const open = (): Promise<IDBDatabase> =>
    (opened ??= new Promise((resolve, reject) => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("outbox", { keyPath: "key" });
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error!);
    }));
  /** Runs one transaction, and returns when it is on the disk. */
  const transact = async <T>(work: (store: IDBObjectStore) => IDBRequest<T> | undefined): Promise<T | undefined> => {
    const transaction = (await open()).transaction("outbox", "readwrite", { durability: "strict" });
    const request = work(transaction.objectStore("outbox"));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error!);
    });
  };
  /** Holds a lock until the page ends, which shows other tabs that this one lives. Without locks, this is taken for the only tab. */
  const live = (): Promise<void> =>
    new Promise((resolve) => {
      if (!globalThis.navigator?.locks) return resolve();
      void navigator.locks.request(lockName(mine), () => (resolve(), new Promise(() => {})));
    });
  const adopt = async (): Promise<OutboxEntry[]> => {
    const { held = [] } = (await globalThis.navigator?.locks?.query()) ?? {};
    const living = new Set(held.map((lock) => lock.name));
    const orphans: OutboxEntry[] = [];
    await transact((store) => {
      const all = store.getAll();
      all.onsuccess = () => {
        for (const { owner, ...entry } of all.result as (OutboxEntry & { owner: string })[]) {
          if (living.has(lockName(owner))) continue;
          orphans.push(entry);
          store.put({ ...entry, owner: mine });
        }
      };
      return undefined;
    });
    return orphans;
  };
  return {
    // One tab after another: the second sees which entries the first has adopted.
    load: async () => {
      await live();
      return globalThis.navigator?.locks ? navigator.locks.request(`${name}:adopt`, adopt) : adopt();
    },
    put: async (entry) => void (await transact((store) => store.put({ ...entry, owner: mine }))),
    delete: async (key) => void (await transact((store) => store.delete(key))),
  };
}
