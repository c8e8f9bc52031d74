// The parts of the client that decide without a server, with the clock paused.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Answers } from "../src/answers.js";
import type { RoomlogError } from "../src/errors.js";
import { Acks } from "../src/room/acks.js";
import { BoundedQueue } from "../src/room/backpressure.js";
import { Positions } from "../src/room/positions.js";
import { memoryPositions } from "../src/stores.js";
import { Timers } from "../src/timers.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("the queue for slow handlers", () => {
  const fill = (): { queue: BoundedQueue<number>; log: string[] } => {
    const log: string[] = [];
    const queue = new BoundedQueue<number>(() => log.push("filled"), () => log.push("drained"));
    for (let n = 0; n < 1000; n++) queue.push(n);
    return { queue, log };
  };

  it("reports once that it is full, and once that a quarter is left", () => {
    const { queue, log } = fill();
    queue.push(1000);
    expect([queue.isFull, log]).toEqual([true, ["filled"]]);
    for (let n = 0; n <= 750; n++) {
      expect(log).toEqual(["filled"]);
      queue.done(n);
    }
    expect([queue.isFull, queue.first, log]).toEqual([false, 751, ["filled", "drained"]]);
  });

  it("keeps the items that came after it was cleared, when an older one is done", () => {
    const { queue, log } = fill();
    queue.clear();
    queue.push(2000);
    queue.done(0);
    expect([queue.isFull, queue.first, log]).toEqual([false, 2000, ["filled"]]);
  });
});

describe("acknowledgements", () => {
  it("are gathered, and sent once with the newest id", async () => {
    const store = memoryPositions();
    const positions = new Positions(store, () => "room/phone", (error) => expect(error).toBeUndefined());
    const sent: string[] = [];
    const acks = new Acks(positions, (id) => sent.push(id));
    for (const id of ["1-1", "1-3", "1-2"]) await acks.note(id);
    expect(sent).toEqual([]);
    vi.advanceTimersByTime(50);
    expect([sent, store.get("room/phone")]).toEqual([["1-3"], "1-3"]);
    await acks.note("1-4");
    acks.flush();
    vi.advanceTimersByTime(1000);
    expect(sent).toEqual(["1-3", "1-4"]);
  });
});

describe("positions", () => {
  it("are read from the store once, and reported when the store fails", async () => {
    const errors: RoomlogError[] = [];
    const store = { get: vi.fn(() => "1-7"), set: () => Promise.reject(new Error("disk full")), delete: () => {} };
    const positions = new Positions(store, () => "room", (error) => errors.push(error));
    await Promise.all([positions.load(), positions.load()]);
    expect(store.get).toHaveBeenCalledTimes(1);
    expect(positions).toMatchObject({ received: "1-7", handled: "1-7", acked: "1-7" });
    await positions.save("1-8");
    expect(errors).toMatchObject([{ code: "application", message: expect.stringContaining("disk full") }]);
  });

  it("from the store do not replace one that is known already", async () => {
    const positions = new Positions({ ...memoryPositions(), get: () => "1-7" }, () => "room", () => {});
    positions.begin("1-9");
    await positions.load();
    expect(positions.received).toBe("1-9");
  });
});

describe("answers", () => {
  it("go to the request with their ref, once", () => {
    const answers = new Answers();
    const got: unknown[] = [];
    const first = answers.expect<"auth">((answer) => got.push(["first", answer]));
    const second = answers.expect<"publish">((answer) => got.push(["second", answer]));
    expect(answers.settle(second, { op: "ok", ref: second, id: "1-1" })).toBe(true);
    expect(answers.settle(second, { op: "ok", ref: second, id: "1-1" })).toBe(false);
    expect(answers.settle(undefined, { op: "ok", ref: 0, expires: null })).toBe(false);
    answers.fail("the connection to the server was lost");
    expect(answers.settle(first, { op: "ok", ref: first, expires: null })).toBe(false);
    expect(got).toEqual([["second", { op: "ok", ref: 2, id: "1-1" }], ["first", expect.objectContaining({ code: "disconnected" })]]);
  });
});

describe("timers", () => {
  it("replace one of the same name, and end together", () => {
    const timers = new Timers<"a" | "b">();
    const log: string[] = [];
    timers.set("a", 10, () => log.push("replaced"));
    timers.set("a", 20, () => log.push("a"));
    timers.set("b", 30, () => log.push("b"));
    vi.advanceTimersByTime(25);
    timers.clearAll();
    vi.advanceTimersByTime(25);
    expect(log).toEqual(["a"]);
  });

  it("last longer than the platform's", () => {
    const timers = new Timers<"renew">();
    const run = vi.fn();
    const days = 24 * 3600 * 1000;
    timers.set("renew", 60 * days, run);
    vi.advanceTimersByTime(59 * days);
    expect(run).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1 * days);
    expect(run).toHaveBeenCalledTimes(1);
  });
});
