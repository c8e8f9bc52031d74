// An app like one on a phone. Messages are written without a network, the app is closed and reopened, and each still arrives once.
//
// It is written for React Native: it uses only `console` and `process` of Node.js, and passes its own stores to the client, built on a
// storage like AsyncStorage. In a real app, use AsyncStorage instead of `storage`.
import { Roomlog } from "@roomlog/client";

const { ROOMLOG_URL = "http://127.0.0.1:8080", ROOMLOG_TOKEN, ROOMLOG_ROOM = "chat.offline" } = process.env;

/** Outlives the app. Like AsyncStorage, it is asynchronous and stores text. */
const storage = {
  items: new Map(),
  getItem: async (key) => storage.items.get(key) ?? null,
  setItem: async (key, value) => void storage.items.set(key, value),
  removeItem: async (key) => void storage.items.delete(key),
  getAllKeys: async () => [...storage.items.keys()],
};

/** The last read position of each room. */
const positions = {
  get: (name) => storage.getItem(`position:${name}`),
  set: (name, id) => storage.setItem(`position:${name}`, id),
  delete: (name) => storage.removeItem(`position:${name}`),
};

/** Messages that are not confirmed yet. */
const outboxStore = {
  async load() {
    const keys = (await storage.getAllKeys()).filter((key) => key.startsWith("outbox:"));
    return Promise.all(keys.map(async (key) => JSON.parse(await storage.getItem(key))));
  },
  put: (entry) => storage.setItem(`outbox:${entry.key}`, JSON.stringify(entry)),
  delete: (key) => storage.removeItem(`outbox:${key}`),
};

function open() {
  const client = new Roomlog(ROOMLOG_URL, {
    token: ROOMLOG_TOKEN,
    // The outbox is stored as JSON, so messages may only have JSON types.
    encoding: "json",
    positions,
    outbox: { store: outboxStore },
  });
  client.on("error", (error) => console.error(`${error.code}: ${error.message}`));
  return client;
}

// The app is opened without a network. The user writes three messages and closes it.
const first = open();
const draft = first.room(ROOMLOG_ROOM);
for (const text of ["one", "two", "three"]) draft.publish({ text });
while ((await outboxStore.load()).length < 3) await new Promise((resolve) => setTimeout(resolve, 10));
first.close();
console.log("closed: 3 messages waiting in storage");

// Later it is reopened, and sends them as soon as there is a network.
const waiting = new Set((await outboxStore.load()).map((entry) => entry.key));
const app = open();
const room = app.room(ROOMLOG_ROOM, { since: "0" });
const arrived = new Promise((resolve) => {
  room.on("message", ({ from, key, data }) => {
    // Messages of earlier runs are in the room too.
    if (!waiting.delete(key)) return;
    console.log(`${from}: ${data.text}`);
    if (waiting.size === 0) resolve();
  });
});
console.log("reopened");
await arrived;
while ((await outboxStore.load()).length > 0) await new Promise((resolve) => setTimeout(resolve, 10));
app.close();
console.log("closed: no messages waiting");
