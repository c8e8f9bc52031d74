// The messages that a page shows: contiguous, whatever was cached, missed or deleted.
import { describe, expect, it } from "vitest";
import { MessageList } from "../src/message-list.js";
import { messageOf } from "../src/protocol.js";
import type { Gap, Message, StoredMessage } from "../src/protocol.js";

const stored = (seq: number): StoredMessage => ({ room: "r", id: `${100 + seq}-${seq}`, key: `${seq}`, from: "ann", type: "message", data: seq });
const messages = (...seqs: number[]): Message[] => seqs.map((seq) => messageOf(stored(seq)));
const gap = (after: number, next: number): Gap => ({ room: "r", after: `${100 + after}-${after}`, next: `${100 + next}-${next}`, reason: "trimmed" });
const shown = (list: MessageList<unknown>): unknown[] => list.messages.map(({ data }) => data);

function list(...seqs: number[]): MessageList<unknown> {
  const list = new MessageList<unknown>();
  list.add(messages(...seqs) as Message<unknown>[]);
  return list;
}

describe("a list of messages", () => {
  it("has each once and in order", () => {
    const all = list(1, 2, 4);
    all.add(messages(3, 2, 5) as Message<unknown>[]);
    expect(shown(all)).toEqual([1, 2, 3, 4, 5]);
  });

  it("continues where delivery begins right after them", () => {
    const all = list(1, 2);
    all.began("102-2");
    all.add(messages(3) as Message<unknown>[]);
    expect([shown(all), all.isUnchecked]).toEqual([[1, 2, 3], true]);
  });

  it("begins anew where messages are missing before the delivered ones", () => {
    const all = list(1, 2);
    all.hasOlder = false;
    all.began("104-4");
    expect(shown(all), "until others come").toEqual([1, 2]);
    all.add(messages(5) as Message<unknown>[]);
    expect([shown(all), all.hasOlder]).toEqual([[5], true]);
  });

  it("keeps messages and gaps in the cache, and shows them before those that have come already", () => {
    const all = list(1, 4);
    all.addGaps([gap(1, 4), gap(1, 4)]);
    const cached = structuredClone(all.cached());
    const again = list(5, 6);
    again.restore(cached, "104-4");
    again.connect();
    expect(again.messages.map(({ data, state, time }) => [data, state, time.getTime()])).toEqual([1, 4, 5, 6].map((seq) => [seq, "sent", 100 + seq]));
    expect(again.gaps).toEqual([gap(1, 4)]);
  });

  it("does not begin anew where a gap explains what is missing", () => {
    const all = list(1, 2);
    all.addGaps([gap(2, 5)]);
    all.began("104-4");
    all.add(messages(5) as Message<unknown>[]);
    expect(shown(all)).toEqual([1, 2, 5]);
  });

  it("drops what is missing in the newest page of the history, and keeps what the page does not reach", () => {
    const all = list(1, 2, 3, 4, 5, 6);
    all.check({ messages: messages(3, 5), more: true, head: "105-5" } as Parameters<typeof all.check>[0]);
    expect(shown(all)).toEqual([1, 2, 3, 5, 6]);
    all.check({ messages: messages(3, 5), more: false, head: "106-6" } as Parameters<typeof all.check>[0]);
    expect(shown(all)).toEqual([3, 5]);
  });

  it("drops the oldest when there are very many, except those that were loaded", () => {
    const all = list(...Array.from({ length: 1999 }, (_, i) => i + 3));
    all.addOlder({ messages: messages(1, 2), more: false, head: "0-0" } as Parameters<typeof all.addOlder>[0]);
    all.add(messages(2002) as Message<unknown>[]);
    expect([all.messages.length, all.hasOlder]).toEqual([2002, false]);
    all.add(messages(...Array.from({ length: 3000 }, (_, i) => i + 2003)) as Message<unknown>[]);
    expect([all.messages.length, all.hasOlder]).toEqual([4001, true]);
  });
});
