// Random schedules of several readers on a simulated log and connection: frames and answers arrive one by one, between publishes,
// deletions, slow handlers and lost connections. Each reader must have the log from its start on, once and in order.
//
// ROOMLOG_SEED=17 runs one schedule alone, ROOMLOG_SCHEDULES=60000 so many.
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { RoomlogError } from "../src/errors.js";
import { before, compareIds, parseId } from "../src/ids.js";
import type { HistoryAnswer, Push, ServerFrame } from "../src/protocol.js";
import type { Room } from "../src/room/room.js";
import { Rooms } from "../src/room/rooms.js";
import type { RoomContext, RoomOptions } from "../src/room/types.js";
import { memoryPositions } from "../src/stores.js";
import { Random } from "./harness/random.js";

const SCHEDULES = Number(process.env["ROOMLOG_SCHEDULES"] ?? 2000);
const STEPS = 120;
const ROOM = "simulated";

/** Messages in a page, which is far less than a client asks for. */
const PAGE = 3;

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
afterEach(() => void vi.useRealTimers());

interface Request {
  op: string;
  fields: Record<string, unknown>;
  settle?: (answer: unknown) => void;
}

/** A server with one room, and a connection to it on which nothing arrives unasked. */
class World {
  state: "open" | "waiting" = "open";
  readonly log: { id: string; deleted: boolean }[] = [];
  readonly requests: Request[] = [];
  readonly arriving: (() => void)[] = [];
  #now = 1000;
  /** The id after which the server delivers. */
  #delivered: string | undefined;
  #isLive = false;
  push: (push: Push) => void = () => {};

  constructor(readonly random: Random) {}

  get head(): string {
    return this.log.at(-1)?.id ?? "0-0";
  }

  publish(): void {
    this.#now += this.random.below(3);
    this.log.push({ id: `${this.#now}-${this.log.length + 1}`, deleted: false });
    this.#deliver();
  }

  delete(): void {
    if (this.log.length > 0) this.random.pick(this.log).deleted = true;
  }

  ask(op: string, fields: Record<string, unknown>, settle?: (answer: unknown) => void): void {
    if (this.state === "open") this.requests.push({ op, fields, ...(settle && { settle }) });
    else settle?.(new RoomlogError("disconnected", "no connection"));
  }

  /** Lets the server handle the next request. */
  serve(): void {
    const request = this.requests.shift();
    if (!request) return;
    const { op, fields, settle } = request;
    const answer = (value: unknown): void => void this.arriving.push(() => settle?.(value));
    if (this.random.chance(0.05) && settle) return answer(new RoomlogError("unavailable", "try again", { retryAfterMs: 10 }));
    if (op === "history") answer(this.#page(fields));
    if (op === "unsubscribe") this.#delivered = undefined;
    if (op !== "subscribe") return;
    const { since, last } = fields as { since?: string; last?: number };
    const kept = this.log.filter(({ deleted }) => !deleted);
    const from = since === "0" ? kept[0]?.id : last ? kept.slice(-last)[0]?.id : undefined;
    const position = since && since !== "0" && since !== "$" ? since : from ? before(from) : this.head;
    answer({ op: "ok", room: ROOM, position, head: this.head });
    this.#delivered = position;
    this.#isLive = false;
    this.#deliver();
  }

  cut(): void {
    this.state = "waiting";
    this.arriving.length = 0;
    this.#delivered = undefined;
    for (const { settle } of this.requests.splice(0)) settle?.(new RoomlogError("disconnected", "lost"));
  }

  /** Puts the frames on the way that the subscription is due. */
  #deliver(): void {
    if (this.#delivered === undefined) return;
    const after = this.#delivered;
    for (const frame of this.#framesAfter(after)) this.#send(frame);
    this.#delivered = this.head === "0-0" ? after : this.head;
    if (!this.#isLive) this.#send({ op: "live", room: ROOM, id: this.#delivered });
    this.#isLive = true;
  }

  #send(frame: Push): void {
    this.arriving.push(() => this.push(frame));
  }

  /** The messages after a position, with a gap where some were deleted. */
  #framesAfter(after: string): Push[] {
    const frames: Push[] = [];
    let at = after;
    for (const { id, deleted } of this.log) {
      if (compareIds(id, after) <= 0 || deleted) continue;
      if (parseId(id)[1] !== parseId(at)[1] + 1) frames.push({ op: "gap", room: ROOM, after: at, next: id, reason: "trimmed" });
      frames.push({ op: "message", room: ROOM, id, key: id, from: "ann", type: "message", data: null });
      at = id;
    }
    if (compareIds(this.head, at) > 0) {
      const [ms, seq] = parseId(this.head);
      frames.push({ op: "gap", room: ROOM, after: at, next: `${ms}-${seq + 1}`, reason: "trimmed" });
    }
    return frames;
  }

  #page({ after, before: bound, limit = 100 }: { after?: string; before?: string; limit?: number }): HistoryAnswer {
    const size = Math.min(limit, PAGE);
    const kept = this.log.filter(({ deleted }) => !deleted);
    const wanted = kept.filter(({ id }) => (after ? after === "0" || compareIds(id, after) > 0 : !bound || compareIds(id, bound) < 0));
    const taken = after ? wanted.slice(0, size) : wanted.slice(-size);
    const messages = taken.map(({ id }) => ({ room: ROOM, id, key: id, from: "ann", type: "message", data: null }));
    const more = wanted.length > taken.length;
    const end = after && !more ? this.head : taken.at(-1)?.id;
    const gap = after && after !== "0" ? this.#framesAfter(after).find((frame) => frame.op === "gap" && compareIds(frame.after, end ?? after) <= 0) : undefined;
    const { after: from, next, reason } = (gap ?? {}) as ServerFrame & { after: string; next: string; reason: string };
    return { messages, more, head: this.head, ...(gap && { gap: { after: from, next, reason } }) };
  }
}

/** A reader, and what it got. */
interface Watched {
  room: Room<any>;
  start: RoomOptions;
  /** The newest id when it began to follow. */
  headBefore: string;
  /** Where it began, and the newest id then. */
  began?: { at: string; head: string };
  got: string[];
  problems: string[];
  slow: boolean;
  waiting: (() => void)[];
  /** Whether a handler has closed the room. */
  closed: boolean;
}

async function schedule(seed: number): Promise<void> {
  const random = new Random(seed);
  const world = new World(random);
  const connection = {
    get state() {
      return world.state;
    },
    connect() {},
    ask: world.ask.bind(world),
    tell: (op: string, fields: Record<string, unknown>) => world.ask(op, fields),
    request: (op: string, fields: Record<string, unknown>) =>
      new Promise((resolve, reject) => world.ask(op, fields, (answer) => (answer instanceof RoomlogError ? reject(answer) : resolve(answer)))),
  };
  const outbox = { seen: () => undefined, kick() {} };
  const context = { connection, outbox, positions: memoryPositions(), binary: false } as unknown as RoomContext;
  const rooms = new Rooms(context, () => {});
  world.push = (push) => rooms.push(push);
  const readers: Watched[] = [];

  const watch = (start: RoomOptions): void => {
    const room = rooms.openAnother(ROOM, start);
    const reader: Watched = { room, start, headBefore: world.head, got: [], problems: [], slow: random.chance(0.2), waiting: [], closed: false };
    readers.push(reader);
    const mayClose = random.chance(0.1);
    const close = (): void => {
      if (!mayClose || !random.chance(0.3)) return;
      reader.closed = true;
      room.close();
    };
    room.on("live", close);
    room.on("started", (at) => {
      reader.began ??= { at, head: world.head };
      close();
    });
    room.on("gap", ({ after, next }) => {
      if (reader.closed) reader.problems.push("a gap after it was closed");
      if (compareIds(after, reader.got.at(-1) ?? reader.began!.at) !== 0) reader.problems.push(`a gap after ${after}`);
      reader.got.push(before(next));
      close();
    });
    room.on("error", ({ code, message }) => reader.problems.push(`${code} ${message}`));
    room.on("unsubscribed", ({ code, message }) => reader.problems.push(`ended: ${code} ${message}`));
    const take = (message: { id: string }): unknown => {
      const last = reader.got.at(-1) ?? reader.began!.at;
      if (parseId(message.id)[1] !== parseId(last)[1] + 1) reader.problems.push(`${message.id} right after ${last}`);
      if (reader.closed) reader.problems.push(`${message.id} after it was closed`);
      reader.got.push(message.id);
      close();
      return reader.slow ? new Promise<void>((resolve) => reader.waiting.push(resolve)) : undefined;
    };
    room.on("message", take);
  };
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 12; i++) await Promise.resolve();
  };
  const act = (what: string): void => {
    switch (what) {
      case "publish":
        return world.publish();
      case "delete":
        return world.delete();
      case "serve":
        return world.serve();
      case "arrive":
        return void world.arriving.shift()?.();
      case "watch":
        if (readers.length < 5) watch(random.pick<RoomOptions>([{}, { last: 1 }, { last: 5 }, { since: "0" }]));
        return;
      case "handle":
        if (readers.length > 0) random.pick(readers).waiting.splice(0).forEach((done) => done());
        return;
      case "cut":
        world.cut();
        return rooms.down();
      case "connect":
        if (world.state === "open") return;
        world.state = "open";
        return rooms.up();
      case "wait":
        vi.advanceTimersByTime(random.below(1500));
    }
  };
  for (let n = random.below(12); n > 0; n--) world.publish();
  for (let step = 0; step < STEPS; step++) {
    act(random.weighted({ publish: 5, delete: 1, serve: 8, arrive: 12, watch: 2, handle: 2, cut: 0.7, connect: 2, wait: 1 }));
    await settle();
  }
  act("connect");
  for (const reader of readers) reader.slow = false;
  const isDone = (): boolean => readers.every(({ room, got, began, closed }) => closed || (room.state === "live" && (got.at(-1) ?? began!.at) === world.head));
  for (let rounds = 0; rounds < 1500 && !isDone(); rounds++) {
    for (const { waiting } of readers) waiting.splice(0).forEach((done) => done());
    world.serve();
    act("arrive");
    if (rounds % 10 === 0) vi.advanceTimersByTime(1000);
    // A deletion at the end of the log shows with the next message.
    if (rounds === 200) world.publish();
    await settle();
  }
  for (const { room, got, began, start, headBefore, problems, closed } of readers) {
    expect(problems).toEqual([]);
    if (closed) continue;
    expect(room.state).toBe("live");
    expect(got.at(-1) ?? began!.at).toBe(world.head);
    const count = (head: string): number => parseId(head)[1] - parseId(began!.at)[1];
    if (start.since === undefined && !start.last) expect(compareIds(began!.at, began!.head), "only new ones").toBeLessThanOrEqual(0);
    if (start.since === "0") expect(world.log.slice(0, parseId(began!.at)[1]).every(({ deleted }) => deleted), "all").toBe(true);
    // Deleted messages do not count, so that there may be more.
    if (start.last) expect(count(began!.head), "the newest").toBeGreaterThanOrEqual(Math.min(start.last, world.log.filter(({ id, deleted }) => !deleted && compareIds(id, headBefore) <= 0).length));
  }
  rooms.close();
}

const only = process.env["ROOMLOG_SEED"];
it.each(only ? [Number(only)] : Array.from({ length: SCHEDULES / 100 }, (_, i) => i))("schedules of readers (%i)", async (group) => {
  if (only) return schedule(group);
  for (let seed = group * 100; seed < group * 100 + 100; seed++) {
    await schedule(seed).catch((error: Error) => {
      throw new Error(`ROOMLOG_SEED=${seed}: ${error.message}`, { cause: error });
    });
  }
});
