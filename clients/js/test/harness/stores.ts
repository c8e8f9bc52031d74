// Stores that outlive a client, as the disk of a device does. A closed client no longer changes them.
import type { OutboxEntry, OutboxStore, PositionStore } from "../../src/index.js";

export class Disk {
  readonly positions = new Map<string, string>();
  readonly entries = new Map<string, OutboxEntry>();
}

/** The stores of one life of a client. Its writes are lost once it is `dead`. */
export class Life {
  dead = false;
  readonly positions: PositionStore;
  readonly outbox: OutboxStore;

  constructor(disk: Disk) {
    const alive = (write: () => void): void => void (this.dead || write());
    this.positions = {
      get: (name) => disk.positions.get(name),
      set: (name, id) => alive(() => disk.positions.set(name, id)),
      delete: (name) => alive(() => disk.positions.delete(name)),
    };
    this.outbox = {
      load: () => [...disk.entries.values()].map((entry) => ({ ...entry })),
      put: (entry) => alive(() => disk.entries.set(entry.key, { ...entry })),
      delete: (key) => alive(() => disk.entries.delete(key)),
    };
  }
}
