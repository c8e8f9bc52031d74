// An app as a phone has it: written without a network, closed, opened again, and what was written still arrives, once.
//
// Written like an app in React Native: it uses nothing of Node.js but `console` and `process`, and hands the client its stores, which
// stand on a storage like AsyncStorage. To have it in such an app, put that in the place of `storage`.
import { Roomlog } from "@roomlog/client";

const { ROOMLOG_URL = "http://127.0.0.1:8080", ROOMLOG_TOKEN, ROOMLOG_ROOM = "chat.general" } = process.env;

/** What outlives the app. As AsyncStorage does it, all of it is asynchronous, and text. */
const storage = {
  kept: new Map(),
  getItem: async (key) => storage.kept.get(key) ?? null,
  setItem: async (key, value) => void storage.kept.set(key, value),
  removeItem: async (key) => void storage.kept.delete(key),
  getAllKeys: async () => [...storage.kept.keys()],
};

/** How far each room was read. */
const positions = {
  get: (name) => storage.getItem(`position:${name}`),
  set: (name, id) => storage.setItem(`position:${name}`, id),
  delete: (name) => storage.removeItem(`position:${name}`),
};

/** What was written and is not confirmed. */
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
    // The outbox is kept as JSON, so the messages hold nothing that JSON has not.
    encoding: "json",
    positions,
    outbox: { store: outboxStore },
  });
  client.on("error", (error) => console.error(`${error.code}: ${error.message}`));
  return client;
}

// The app is opened somewhere without a network. The user writes three messages, and closes it.
const first = open();
const draft = first.room(ROOMLOG_ROOM);
for (const text of ["one", "two", "three"]) draft.publish({ text });
while ((await outboxStore.load()).length < 3) await new Promise((resolve) => setTimeout(resolve, 10));
first.close();
console.log("closed: 3 messages wait in the storage");

// Later it is opened again, and sends them as soon as there is a network.
const app = open();
const room = app.room(ROOMLOG_ROOM, { since: "0" });
const arrived = new Promise((resolve) => {
  let count = 0;
  room.on("message", ({ from, data }) => {
    console.log(`${from}: ${data.text}`);
    if (++count === 3) resolve();
  });
});
console.log("opened again");
await arrived;
while ((await outboxStore.load()).length > 0) await new Promise((resolve) => setTimeout(resolve, 10));
app.close();
console.log("closed: nothing waits");
