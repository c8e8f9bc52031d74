// The rows of the log: groups, missed messages, gaps.
import { describe, expect, it } from "vitest";
import { timeline } from "../src/chat/timeline.ts";
import type { Missed, Shown } from "../src/chat/timeline.ts";
import type { Gap } from "@roomlog/client";

const NOON = new Date(2026, 4, 4, 12).getTime();
const id = (seq: number, minutes = 0): string => `${NOON + minutes * 60_000 + seq}-${seq}`;

/** `ann 3` is ann's message 3, `ann 3 +10` the same ten minutes later, and `ann` a message that is still being sent. */
function message(text: string): Shown {
  const [from, seq, later = "0"] = text.split(" ");
  const common = { room: "room", key: text, from: from!, type: "message", data: text, time: new Date(NOON + Number(later) * 60_000) };
  return seq === undefined ? { ...common, state: "sending" } : { ...common, state: "sent", id: id(Number(seq), Number(later)) };
}

interface Case {
  gaps?: Gap[];
  missed?: Missed;
  hasOlder?: boolean;
}

/** Each row as a short text. A message is its own text, after a `.` unless it starts a group. Days are left out by default. */
function rows(texts: string[], { gaps = [], missed, hasOlder = true }: Case = {}, withDays = false): string[] {
  return timeline(texts.map(message), { gaps, missed, me: "me", hasOlder })
    .filter(({ kind }) => withDays || kind !== "day")
    .map((row) => {
      switch (row.kind) {
        case "message": return (row.first ? "" : ".") + row.key;
        case "new": return `[${row.count} new, ${row.above} above]`;
        case "day": return "[day]";
        default: return `[${row.text}]`;
      }
    });
}

describe("the log shows", () => {
  it("consecutive messages of one sender as a group", () => {
    expect(rows(["ann 1", "ann 2", "bob 3", "ann 4", "ann 5 +10", "me", "me"])).toEqual(["ann 1", ".ann 2", "bob 3", "ann 4", "ann 5 +10", "me", ".me"]);
  });

  it("each day once", () => {
    expect(rows(["ann 1", "ann 2", `ann 3 ${24 * 60}`, `ann 4 ${24 * 60}`], {}, true)).toEqual([
      "[day]", "ann 1", ".ann 2", "[day]", `ann 3 ${24 * 60}`, `.ann 4 ${24 * 60}`,
    ]);
  });

  it("a line above the messages that others wrote meanwhile", () => {
    const texts = ["ann 1", "me 2", "ann 3", "me 4", "bob 5", "ann 6"];
    expect(rows(texts, { missed: { after: id(1), upTo: id(5) } })).toEqual(["ann 1", "me 2", "[2 new, 0 above]", "ann 3", "me 4", "bob 5", "ann 6"]);
    expect(rows(texts, { missed: { after: id(1) } })[2]).toBe("[3 new, 0 above]");
    expect(rows(texts, { missed: { after: id(6), upTo: id(6) } })).toEqual(texts);
    expect(rows(["ann 1", "me 2"], { missed: { after: id(1), upTo: id(2) } })).toEqual(["ann 1", "me 2"]);
  });

  it("the number of missed messages that are not loaded yet", () => {
    expect(rows(["ann 101", "bob 102"], { missed: { after: id(40), upTo: id(102) } })).toEqual(["[62 new, 60 above]", "ann 101", "bob 102"]);
  });

  it("gaps, with or without a gap frame", () => {
    const gone = (count: string): string => `[${count} expired.]`;
    expect(rows(["ann 1", "ann 3"])).toEqual(["ann 1", gone("1 message was deleted or has"), "ann 3"]);
    const gaps = [{ room: "room", after: id(1), next: id(5), reason: "trimmed" }];
    expect(rows(["ann 1", "ann 5"], { gaps })).toEqual(["ann 1", gone("3 messages were deleted or have"), "ann 5"]);
    expect(rows(["ann 1", "me"], { gaps })).toEqual(["ann 1", gone("3 messages were deleted or have"), "me"]);
    expect(rows(["ann 1"], { gaps })).toEqual(["ann 1", gone("3 messages were deleted or have")]);
  });

  it("that the server lost recent data", () => {
    const gaps = [{ room: "room", after: id(9), next: id(7, 1), reason: "rewound" }];
    expect(rows(["ann 8", "ann 9", "ann 7 1"], { gaps })).toEqual([
      "ann 8", ".ann 9", "[The server lost recent data. 3 messages before this point may be missing.]", "ann 7 1",
    ]);
  });

  it("the beginning of the room", () => {
    expect(rows([], { hasOlder: false })).toEqual(["[No messages yet. Say hello!]"]);
    expect(rows(["ann 1"], { hasOlder: false })[0]).toBe("[This is the beginning of the room.]");
    expect(rows(["ann 1001"], { hasOlder: false })[0]).toBe("[1,000 messages before this are no longer available.]");
  });
});
