// Scrolling: nothing moves that the reader looks at, and a long room scrolls as smoothly as a short one.
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startChromium } from "../../clients/js/test/harness/chromium.ts";
import { Server } from "../../clients/js/test/harness/server.ts";
import { until } from "../../clients/js/test/harness/until.ts";
import { isAtEnd, scrollThrough, scrollUp, topmost } from "./harness/log.ts";
import { Person, endAll } from "./harness/person.ts";
import { fill, say } from "./harness/say.ts";

let browser: Browser;
let server: Server;
beforeAll(async () => {
  [browser, server] = await Promise.all([startChromium(), Server.startForDevelopment()]);
});
afterEach(async () => expect(await endAll()).toEqual([]));
afterAll(async () => {
  await browser?.close();
  await server?.end();
});

describe("a reader", () => {
  it("keeps the scroll position when messages are added above or below", async () => {
    await fill(server, "long", 900);
    const ann = await Person.in(browser, server, "ann", "long");
    await ann.shows("message 900");
    const log = ann.at(".log");
    await until("it starts at the end", () => isAtEnd(log));

    expect(await scrollUp(log, 100), "pixels by which a row moved when older ones were added above it").toBeLessThan(3);
    await ann.at(".log").getByText("This is the beginning of the room.").waitFor();

    await log.evaluate((box) => (box.scrollTop = 2000));
    const seen = await topmost(log);
    await say(server, "bob", "long", { text: "new below" });
    const toEnd = ann.at(".to-end");
    await until("the button counts the new message", async () => (await toEnd.textContent())?.trim() === "1 new");
    expect(await topmost(log)).toEqual(seen);
    await toEnd.click();
    await until("it is at the end", () => isAtEnd(log));
    await ann.shows("new below");
    await toEnd.waitFor({ state: "detached" });
    await say(server, "bob", "long", { text: "and follows" });
    await ann.shows("and follows");
    await until("it is at the end again", () => isAtEnd(log));
  });

  it("comes back to the same place in a room", async () => {
    await fill(server, "place", 300);
    const ann = await Person.in(browser, server, "ann", "place");
    await ann.shows("message 300");
    const log = ann.at(".log");
    await until("it is at the end", () => isAtEnd(log));
    await log.evaluate((box) => (box.scrollTop -= 1500));
    await ann.at(".to-end").waitFor();
    const seen = await topmost(log);
    await ann.join("elsewhere");
    await ann.page.goBack();
    await until("the room is open", async () => (await ann.at("h1").textContent()) === "place");
    expect(await topmost(log)).toEqual(seen);
  });

  it("sees the day and the author of a long run of messages at any point of it", async () => {
    await fill(server, "run", 200);
    const ann = await Person.in(browser, server, "ann", "run");
    await ann.shows("message 200");
    await until("the author is shown", async () => (await ann.at(".where .author").textContent())?.includes("mia"));
    expect(await ann.at(".where .on").textContent()).toBe("Today");
  });

  it("finds the message of a link, however far up", async () => {
    const wanted = await say(server, "bob", "linked", { text: "the one" });
    await fill(server, "linked", 600);
    const ann = await Person.in(browser, server, "ann", `linked/${wanted}`);
    await ann.at(".message[data-target]").getByText("the one").waitFor();
    expect(await ann.at(".message[data-target]").evaluate((row) => row.getBoundingClientRect().top)).toBeGreaterThan(60);
  });

  it("scrolls through 20,000 messages without a stutter", async () => {
    await fill(server, "huge", 20_000);
    const ann = await Person.in(browser, server, "ann", "huge");
    await ann.shows("message 20000");
    const log = ann.at(".log");
    await until("all are loaded", async () => {
      await log.evaluate((box) => (box.scrollTop = 0));
      return (await ann.at(".log").getByText("This is the beginning of the room.").count()) > 0;
    }, 100_000);
    const { times, elements } = await scrollThrough(log, 100_000, 240, 400);
    const [median, late] = [times[200]!, times.filter((time) => time > 100).length];
    console.log(`20,000 messages: ${elements} elements at most; frames of ${median.toFixed(1)} ms in the median, ${times.at(-1)!.toFixed(1)} ms at most, ${late} above 100 ms`);
    expect(elements).toBeLessThan(1500);
    expect(median).toBeLessThan(40);
    // A machine under load drops a frame now and then; without virtualisation, nearly all frames take this long.
    expect(late).toBeLessThan(20);
    await say(server, "bob", "huge", { text: "still quick" });
    await ann.at(".to-end").click();
    await ann.shows("still quick");
  }, 240_000);
});
