// A device in a fault script: a client that can be offline, cut off, slow, or reloaded with its stores, and a record of its user's
// actions.
import { Roomlog } from "../../src/node.js";
import type { Message, Publication, Room, RoomOptions, RoomlogOptions } from "../../src/node.js";
import { Proxy } from "./proxy.js";
import { token } from "./server.js";
import { Disk, Life } from "./stores.js";
import { pause } from "./until.js";

export const FAST = { backoffMin: 20, backoffMax: 200, connect: 3000, probe: 300 };

export interface Written {
  key: string;
  text: string;
  /** Whether the client reported it as cancelled before it was sent. */
  cancelled: boolean;
  /** The id of the confirmation. */
  id: string | undefined;
}

export class Device {
  /** Ids in the order in which they were handled, over all lives. */
  readonly handled: string[] = [];
  /** In the order of publishing, over all lives. */
  readonly written: Written[] = [];
  readonly problems: string[] = [];
  /** The ids that each other reader of this life has handled. */
  watched: string[][] = [];
  slowMs = 0;
  client!: Roomlog;
  room!: Room<string>;
  private life!: Life;
  private readonly publications = new Map<string, Publication<string>>();
  private readonly disk = new Disk();

  private constructor(
    readonly user: string,
    readonly proxy: Proxy,
    private readonly name: string,
    private readonly roomOptions: RoomOptions,
    private readonly options: Partial<RoomlogOptions>,
  ) {}

  static async start(
    port: number,
    user: string,
    room: string,
    roomOptions: RoomOptions,
    options: Partial<RoomlogOptions>,
  ): Promise<Device> {
    const device = new Device(user, await Proxy.to(port), room, roomOptions, options);
    device.boot();
    return device;
  }

  /** Closes the page abruptly, and opens it again. */
  reload(): void {
    this.life.dead = true;
    this.proxy.cut();
    this.client.close();
    this.publications.clear();
    this.watched = [];
    this.boot();
  }

  write(text: string): void {
    const publication = this.room.publish(text);
    const written: Written = { key: publication.key, text, cancelled: false, id: undefined };
    this.written.push(written);
    this.publications.set(publication.key, publication);
    const life = this.life;
    publication.then(
      (id) => (written.id = id),
      (error) => {
        if (!life.dead && error.code !== "cancelled") this.problems.push(`${text}: ${error.code} ${error.message}`);
      },
    );
  }

  /** Reads the room a second time, from another start on. */
  watch(start: RoomOptions): void {
    const room = this.client.room<string>(this.name, start);
    // The same start is the same reader.
    if (room.state !== "idle") return;
    const ids: string[] = [];
    this.watched.push(ids);
    room.on("message", ({ id }) => void ids.push(id));
  }

  /** Cancels the last published message, if it has not been sent. */
  cancelLast(): void {
    const written = this.written.at(-1);
    const publication = written && this.publications.get(written.key);
    if (publication?.cancel()) written!.cancelled = true;
  }

  get waiting(): number {
    return this.room.pending.length;
  }

  end(): void {
    this.life.dead = true;
    this.client.close();
    this.proxy.close();
  }

  private boot(): void {
    const life = (this.life = new Life(this.disk));
    this.client = new Roomlog(this.proxy.url, {
      token: () => token(this.user),
      timing: FAST,
      positions: life.positions,
      outbox: { store: life.outbox },
      ...this.options,
    });
    this.room = this.client.room<string>(this.name, this.roomOptions);
    this.room.on("error", (error) => life.dead || this.problems.push(`${error.code}: ${error.message}`));
    this.room.on("gap", (gap) => this.problems.push(`gap after ${gap.after}`));
    this.room.on("message", async (message: Message<string>) => {
      if (this.slowMs > 0) await pause(this.slowMs);
      // A closed page does no more work.
      if (life.dead) return new Promise<void>(() => {});
      this.handled.push(message.id);
    });
  }
}
