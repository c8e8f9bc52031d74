// The cache of the messages that rooms showed last, so that a page opens with them at once, also offline: the entry point
// `@roomlog/client/cache`.
import type { Gap, StoredMessage } from "./protocol.js";

/** The latest messages of a room, as a page showed them. */
export interface CachedRoom {
  /** The newest ones, in order. */
  messages: StoredMessage[];
  /** Places among them where messages are missing for good. */
  gaps: Gap[];
}

/** A cache of rooms, which `useRoom` reads and writes. It may forget at any time. */
export interface MessageCache {
  load(room: string): Promise<CachedRoom | undefined>;
  save(room: string, cached: CachedRoom): Promise<void>;
  /** Forgets a room, as when the user may no longer read it. */
  delete(room: string): Promise<void>;
  /** Forgets everything, as when the user signs out. */
  clear(): Promise<void>;
}

/** Limits of a cache. */
export interface CacheOptions {
  /** The messages kept of a room. Default 200. */
  perRoom?: number;
  /** The rooms kept. Those that were shown longest ago are forgotten first. Default 100. */
  rooms?: number;
}

interface Row extends CachedRoom {
  room: string;
  /** When it was saved, in Unix milliseconds. */
  at: number;
}

/** Keeps messages in IndexedDB. Tabs share them. Use another name for each user of a browser. */
export function indexedDbCache(name = "roomlog-messages", { perRoom = 200, rooms = 100 }: CacheOptions = {}): MessageCache {
  let opened: Promise<IDBDatabase> | undefined;
  const open = (): Promise<IDBDatabase> =>
    (opened ??= new Promise((resolve, reject) => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("rooms", { keyPath: "room" }).createIndex("at", "at");
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error!);
    }));
  const transact = async <T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    const transaction = (await open()).transaction("rooms", mode);
    const request = work(transaction.objectStore("rooms"));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error!);
    });
  };
  return {
    load: async (room) => {
      const row = await transact<Row | undefined>("readonly", (store) => store.get(room));
      return row && { messages: row.messages, gaps: row.gaps };
    },
    save: async (room, { messages, gaps }) => {
      const row: Row = { room, at: Date.now(), messages: messages.slice(-perRoom), gaps };
      await transact("readwrite", (store) => {
        const put = store.put(row);
        const count = store.count();
        count.onsuccess = () => {
          let excess = count.result - rooms;
          if (excess <= 0) return;
          const oldest = store.index("at").openCursor();
          oldest.onsuccess = () => {
            oldest.result?.delete();
            if (--excess > 0) oldest.result?.continue();
          };
        };
        return put;
      });
    },
    delete: async (room) => void (await transact("readwrite", (store) => store.delete(room))),
    clear: async () => void (await transact("readwrite", (store) => store.clear())),
  };
}
