// The page that runs in the browser: a client with its stores, and a record of the handled messages in `localStorage`, where an
// application's own state would be.
import { StrictMode, Suspense, createElement, use, useEffect, useState } from "react";
import type { ReactNode } from "react";
import { createRoot } from "react-dom/client";
import { indexedDbCache } from "../../src/cache.js";
import type { CacheOptions } from "../../src/cache.js";
import { Roomlog, indexedDbOutbox, webPositions } from "../../src/index.js";
import type { Publication, Room, RoomOptions, RoomlogOptions } from "../../src/index.js";
import { RoomlogProvider, useConnection, useRoom, useRoomlog } from "../../src/react.js";

interface Start {
  url: string;
  token: string;
  room: string;
  durable?: string;
  /** The name of this page's record. */
  record: string;
  options?: Partial<RoomlogOptions>;
}

/** What to render. */
interface Render extends Start {
  component?: keyof typeof components;
  read?: RoomOptions;
  /** The limits of a cache. */
  cache?: CacheOptions;
}

const timing = { backoffMin: 20, backoffMax: 200, connect: 3000, probe: 300 };

let client: Roomlog | undefined;
let room: Room<string> | undefined;
const publications = new Map<string, Publication<string>>();

const read = (record: string): string[] => JSON.parse(localStorage.getItem(record) ?? "[]") as string[];

const page = {
  start({ url, token, room: name, durable, record, options }: Start): void {
    client = new Roomlog(url, {
      token: () => token,
      timing,
      positions: webPositions(localStorage, `${record}:`),
      outbox: { store: indexedDbOutbox(record.replace(/-tab.*/, "")) },
      ...options,
    });
    room = client.room<string>(name, durable ? { durable, autoAck: true } : {});
    room.on("message", ({ id }) => localStorage.setItem(`handled:${record}`, JSON.stringify([...read(`handled:${record}`), id])));
    room.on("error", ({ code, message }) => localStorage.setItem(`problems:${record}`, JSON.stringify([...read(`problems:${record}`), `${code} ${message}`])));
  },
  publish(text: string): string {
    const publication = room!.publish(text);
    publications.set(publication.key, publication);
    return publication.key;
  },
  cancel: (key: string): boolean => publications.get(key)?.cancel() ?? false,
  confirmed: (key: string): string | undefined => publications.get(key)?.id,
  waiting: (): number => room?.pending.length ?? 0,
  state: (): string => `${client?.state} ${room?.state}`,
  position: (): string | undefined => room?.position,
  transport: (): string | undefined => client?.transport,
  resume: (): void => room?.resume(),
  handled: (record: string): string[] => read(`handled:${record}`),
  problems: (record: string): string[] => read(`problems:${record}`),
  render({ url, token, room: name, component = "Chat", read, options, cache }: Render): void {
    const messages = cache && indexedDbCache("messages", cache);
    client = new Roomlog(url, { token: () => token, timing, encoding: "json", ...options, ...(messages && { cache: messages }) });
    const shown = createElement(components[component], { name, ...(read && { read }) });
    const suspended = createElement(Suspense, { fallback: "loading" }, createElement(Later, null, shown));
    createRoot(document.body).render(createElement(StrictMode, null, createElement(RoomlogProvider, { client }, suspended)));
  },
};

export type Page = typeof page;
Object.assign(globalThis, { page });

interface Properties {
  name: string;
  read?: RoomOptions;
}

const components = { Chat, Beside, Pane };

const loaded = new Promise((resolve) => setTimeout(resolve, 20));

/** Suspends its part of the page for a while. */
function Later({ children }: { children?: ReactNode }) {
  use(loaded);
  return children;
}

/** A sidebar that counts the new messages of a room, and a pane that shows it. */
function Beside({ name }: Properties) {
  const client = useRoomlog();
  const [news, setNews] = useState(0);
  useEffect(() => client.room(name).on("message", () => setNews((news) => news + 1)), [client, name]);
  return (
    <main>
      <p id="news">{news}</p>
      <Pane name={name} read={{ last: 50 }} />
    </main>
  );
}

/** A room with the state of the connection and the error. */
function Pane({ name, read }: Properties) {
  const { messages, state, error, publish, resume } = useRoom<{ text: string }>(name, read);
  const connection = useConnection();
  return (
    <section>
      <p id="state">{state}</p>
      <p id="error">{error && `${error.code}: ${error.message}`}</p>
      <p id="connection">{`${connection.state} ${connection.retryIn ?? ""} ${connection.error?.message ?? ""}`}</p>
      <button id="publish" onClick={() => void publish({ text: "mine" })} />
      <button id="resume" onClick={resume} />
      <button id="retry" onClick={connection.retry} />
      <ol>{messages.map((message) => <li key={message.key} data-state={message.state}>{message.data.text}</li>)}</ol>
    </section>
  );
}

function Chat({ name }: Properties) {
  const { messages, state, hasOlder, loadOlder, publish, typing, setTyping } = useRoom<{ text: string }>(name, { last: 3 });
  const { state: connection } = useConnection();
  return (
    <main>
      <p id="state">{`${connection} ${state}`}</p>
      <button id="older" disabled={!hasOlder} onClick={() => void loadOlder(2)} />
      <button id="publish" onClick={() => void publish({ text: `mine ${messages.length}` })} />
      <button id="type" onClick={() => setTyping(true)} />
      <ol>
        {messages.map((message) => (
          <li key={message.key} data-key={message.key} data-state={message.state}>{`${message.from}: ${message.data.text}`}</li>
        ))}
      </ol>
      <p id="typing">{typing.join(", ")}</p>
    </main>
  );
}
