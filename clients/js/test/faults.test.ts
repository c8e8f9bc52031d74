// Two hundred scripts of random faults. After each, every confirmed message is in the log once, no cancelled message is, each reader
// has handled the log from its start on, once and in order, and the server has the position of the durable subscription.
//
// ROOMLOG_SEED=17 runs one script alone.
import { afterAll, describe, expect, it } from "vitest";
import { compareIds } from "../src/index.js";
import { Device } from "./harness/device.js";
import { Random } from "./harness/random.js";
import { Server } from "./harness/server.js";
import { pause, until } from "./harness/until.js";

const SCRIPTS = 200;

/** Number of scripts that share a server and its faults. */
const TOGETHER = 10;

const STEPS = 24;

/** A server that several scripts disturb, one at a time. */
class Stage {
  private fault: Promise<void> | undefined;

  constructor(readonly server: Server) {}

  /** Causes a fault, unless another one lasts still. Resolves when the server works again. */
  disturb(how: (server: Server) => Promise<void>): Promise<void> {
    this.fault ??= how(this.server).finally(() => (this.fault = undefined));
    return this.fault;
  }
}

const FAULTS = {
  killNode: async (server: Server) => {
    await server.killNode();
    await server.startNode();
  },
  restartNode: async (server: Server) => {
    await server.terminateNode();
    await server.startNode();
  },
  stopRedis: async (server: Server) => {
    server.stopRedis();
    await pause(700);
    server.continueRedis();
  },
  killRedis: async (server: Server) => {
    await server.killRedis();
    await pause(50);
    await server.startRedis();
  },
};

async function script(seed: number, stage: Stage): Promise<void> {
  const random = new Random(seed);
  const room = `faults.${seed}`;
  const encoding = random.pick(["json", "msgpack"] as const);
  const transports = () => [random.weighted({ websocket: 6, sse: 2, polling: 2 })];
  const start = (user: string, options = {}) =>
    Device.start(stage.server.port, user, room, options, { encoding, transports: transports() });
  const writer = await start("ann");
  const reader = await start("bob");
  const durable = { durable: "phone", autoAck: true };
  const shared = [await start("dora", durable), await start("dora", durable)];
  const devices = [writer, reader, ...shared];
  try {
    await until("all follow the room", () => devices.every(({ room }) => room.position !== undefined));
    let number = 0;
    for (let step = 0; step < STEPS; step++) {
      const device = random.pick(devices);
      const act = random.weighted({
        write: 6, cancel: 1, cut: 2, midFrame: 2, offline: 2, online: 3, reload: 2, slow: 2, takeOver: 2, watch: 2,
        killNode: 0.25, restartNode: 0.15, stopRedis: 0.25, killRedis: 0.15,
      });
      const author = random.pick([writer, reader]);
      switch (act) {
        case "write":
          for (let n = random.below(5); n >= 0; n--) author.write(`${number++}`);
          break;
        case "cancel":
          author.write(`${number++}`);
          if (random.chance(0.5)) await pause(random.below(10));
          author.cancelLast();
          break;
        case "cut":
        case "midFrame":
          device.proxy.cut(act === "midFrame");
          break;
        case "offline":
          device.proxy.goOffline();
          break;
        case "online":
          for (const { proxy } of devices) proxy.goOnline();
          break;
        case "reload":
          device.reload();
          break;
        case "slow":
          device.slowMs = device.slowMs ? 0 : random.below(40);
          break;
        case "watch":
          device.watch(random.pick([{ last: 1 + random.below(5) }, { since: "0" }]));
          break;
        case "takeOver":
          random.pick(shared).room.resume();
          break;
        default:
          // Not awaited: the script continues while the fault lasts.
          void stage.disturb(FAULTS[act]);
      }
      await pause(random.below(60));
    }
    for (const device of devices) {
      device.proxy.goOnline();
      device.slowMs = 0;
    }
    await stage.disturb(async () => {});
    await until(`every message is confirmed (${seed})`, () => devices.every(({ waiting }) => waiting === 0));
    const log = (await stage.server.history(room)).map(({ id, key, data }) => ({ id, key, text: data as string }));
    const ids = log.map(({ id }) => id);
    const newest = ids.at(-1);
    await until(`all have read the whole log (${seed})`, () => {
      for (const { room } of shared) if (room.state === "ended") room.resume();
      const all = [...[writer, reader].map(({ handled }) => handled), ...devices.flatMap(({ watched }) => watched)];
      return newest === undefined || all.every((handled) => handled.at(-1) === newest);
    });
    await until(`the holders of the durable subscription have read the log together (${seed})`, () => {
      const seen = new Set(shared.flatMap(({ handled }) => handled));
      return ids.every((id) => seen.has(id));
    });
    await until(`the server has the last acknowledgement (${seed})`, async () => {
      for (const { room } of shared) if (room.state === "ended") room.resume();
      return newest === undefined || (await stage.server.position(room, "dora", "phone")) === newest;
    });
    check(log, [writer, reader], shared);
    for (const { user, watched } of devices) {
      for (const handled of watched) expect(handled, `another reader of ${user} has each message once and in order`).toEqual(ids.slice(-handled.length));
    }
  } finally {
    for (const device of devices) device.end();
  }
}

function check(log: { id: string; key: string; text: string }[], readers: Device[], shared: Device[]): void {
  const ids = log.map(({ id }) => id);
  const stored = new Map(log.map((message) => [message.key, message]));
  expect(stored.size, "each key is stored once").toBe(log.length);
  for (const device of readers) {
    expect(device.handled, `${device.user} has handled each message once and in order`).toEqual(ids);
    const kept = device.written.filter(({ key }) => stored.has(key));
    for (const { key, text, cancelled, id } of device.written) {
      if (cancelled) expect(stored.has(key), `${text} was cancelled`).toBe(false);
      if (id !== undefined) expect(stored.get(key), `${text} was confirmed`).toEqual({ id, key, text });
    }
    const order = log.filter(({ key }) => device.written.some((written) => written.key === key)).map(({ key }) => key);
    expect(order, `what ${device.user} wrote is in order`).toEqual(kept.map(({ key }) => key));
  }
  for (const { handled } of shared) {
    for (let i = 1; i < handled.length; i++) {
      expect(compareIds(handled[i - 1]!, handled[i]!), "a durable reader goes forward only").toBeLessThan(0);
    }
  }
  for (const { user, problems } of [...readers, ...shared]) expect(problems, `${user} saw no problem`).toEqual([]);
}

describe("random faults lose, repeat and reorder nothing", () => {
  const only = process.env["ROOMLOG_SEED"];
  const seeds = only ? [Number(only)] : Array.from({ length: SCRIPTS }, (_, seed) => seed);
  const servers: Server[] = [];
  afterAll(() => Promise.all(servers.map((server) => server.end())));

  for (let first = 0; first < seeds.length; first += TOGETHER) {
    const group = seeds.slice(first, first + TOGETHER);
    it.concurrent(`seeds ${group[0]} to ${group.at(-1)}`, async () => {
      const server = await Server.start();
      servers.push(server);
      const stage = new Stage(server);
      const failed: string[] = [];
      await Promise.all(
        group.map((seed) =>
          script(seed, stage).catch((error: Error) => failed.push(`ROOMLOG_SEED=${seed}: ${error.stack ?? error.message}`)),
        ),
      );
      await server.end();
      if (failed.length > 0) throw new Error(failed.join("\n\n"));
    });
  }
});
