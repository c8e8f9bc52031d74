// The parts of the page without a browser: names of direct conversations, grants, initials and colours.
import { describe, expect, it } from "vitest";
import { directRoom, partnerIn, titleOf } from "../src/session/direct.ts";
import { may, readToken } from "../src/session/grants.ts";
import { hueOf, initials } from "../src/ui/avatar.tsx";
import { isLoneEmoji, isLong } from "../src/chat/markdown.tsx";

describe("a direct conversation", () => {
  it("has one room for both, and no other pair has it", () => {
    expect(directRoom("ann", "bob")).toBe("dm:ann:bob");
    const names = ["ann", "bob", "a", "b", "a:b", "b:a", ":a", "a:", "a_b", "a_", "_b", "a_.b", "a__b", "Ann", "ann@example.com", "dm"];
    const rooms = new Map<string, string>();
    for (const [i, one] of names.entries()) {
      for (const other of names.slice(i + 1)) {
        const room = directRoom(one, other)!;
        expect(room, `${one} and ${other}`).toBe(directRoom(other, one));
        expect(rooms.get(room), room).toBeUndefined();
        rooms.set(room, `${one} ${other}`);
        expect([partnerIn(room, one), partnerIn(room, other), partnerIn(room, "eve")]).toEqual([other, one, undefined]);
      }
    }
  });

  it("is only for two people who can have an inbox", () => {
    for (const [me, other] of [["ann", "ann"], ["ann", ""], ["ann", "Mira Lindt"], ["ليلى", "ann"], ["a".repeat(80), "b".repeat(80)]]) {
      expect(directRoom(me!, other!)).toBeUndefined();
    }
  });

  it("is not taken for another room", () => {
    for (const room of ["dm", "dm:ann", "dm:ann:bob:eve", "dm:bob:ann", "chat.general", "@ann"]) expect(partnerIn(room, "ann"), room).toBeUndefined();
    expect([titleOf("dm:ann:bob", "ann"), titleOf("@ann", "ann"), titleOf("@bob", "ann"), titleOf("chat", "ann")]).toEqual(["bob", "Inbox", "@bob", "chat"]);
  });
});

describe("grants", () => {
  it("are read from a token, by pattern", () => {
    const payload = Buffer.from(JSON.stringify({ sub: "ann", rooms: { "chat.*": ["read", "manage"], "a+b": ["manage"], "*": ["read"] } })).toString("base64url");
    const grants = readToken(`x.${payload}.y`);
    expect(grants?.user).toBe("ann");
    expect(["chat.", "chat.general", "chatx", "a+b", "aab"].map((room) => may(grants, "manage", room))).toEqual([true, true, false, true, false]);
    expect([may(grants, "read", "anything"), may(undefined, "read", "anything")]).toEqual([true, false]);
    expect([readToken("nonsense"), readToken("a.b.c"), readToken(`x.${btoa("{}")}.y`)]).toEqual([undefined, undefined, undefined]);
  });
});

describe("a person", () => {
  it("has initials in any script", () => {
    expect(["ann", "Mira Lindt", "jean-luc.picard", "ليلى", "李雷", "x", "👩‍👩‍👧 family", "..."].map(initials)).toEqual(["AN", "ML", "JL", "لي", "李雷", "X", "FA", ".."]);
  });

  it("has a colour of their own", () => {
    const hues = Array.from({ length: 200 }, (_, i) => hueOf(`user ${i}`));
    expect(hueOf("ann")).toBe(hueOf("ann"));
    expect(hues.every((hue) => hue >= 0 && hue <= 360)).toBe(true);
    expect(new Set(hues.map((hue) => Math.floor(hue / 30))).size, "all twelve parts of the circle occur").toBe(12);
  });
});

it("emoji alone, and long texts, are recognised", () => {
  expect(["🎉", "👍🏽", "🇩🇪 🇫🇷", "👩‍👩‍👧👩‍👩‍👧👩‍👩‍👧", " ❤️ "].map(isLoneEmoji)).toEqual([true, true, true, true, true]);
  expect(["", "a", "1", "🎉 a", "🎉🎉🎉🎉", "#"].map(isLoneEmoji)).toEqual([false, false, false, false, false, false]);
  expect([isLong("x".repeat(1400)), isLong("x".repeat(1401)), isLong("\n".repeat(19)), isLong("\n".repeat(20))]).toEqual([false, true, false, true]);
});
