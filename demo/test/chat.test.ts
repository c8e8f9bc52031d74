// Users of the page in a real browser, with a real server and a real Redis.
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startChromium } from "../../clients/js/test/harness/chromium.ts";
import { Server, token } from "../../clients/js/test/harness/server.ts";
import { until } from "../../clients/js/test/harness/until.ts";
import { Person, endAll } from "./harness/person.ts";
import { say } from "./harness/say.ts";

let browser: Browser;
/** In development mode: it issues tokens, which become invalid when it restarts. */
let server: Server;
beforeAll(async () => {
  [browser, server] = await Promise.all([startChromium(), Server.startForDevelopment()]);
});
/** Servers of single tests; they are stopped even if the test fails. */
const others: Server[] = [];
afterEach(async () => {
  const complaints = await endAll();
  for (const other of others.splice(0)) await other.end();
  expect(complaints, "errors in the browser's console, including violations of the page's policy").toEqual([]);
});
afterAll(async () => {
  await browser?.close();
  await server?.end();
});

describe("two users", () => {
  it("chat and see each other typing", async () => {
    const ann = await Person.in(browser, server, "ann", "two");
    const bob = await Person.in(browser, server, "bob", "two");
    await bob.at("textarea").pressSequentially("hel");
    await until("ann sees that bob is typing", async () => (await ann.at(".typing").textContent()) === "bob is typing…");
    await bob.write("hello\nann");
    await ann.shows("hello\nann");
    await until("ann no longer sees it", async () => (await ann.at(".typing").textContent()) === "");
    await ann.write("hi");
    await bob.shows("hi");
    await until("it is sent", async () => (await ann.at(".message[data-mine]").getAttribute("data-state")) === "sent");
    expect(await bob.shown()).toEqual(await ann.shown());
  });

  it("lose nothing when one is offline and the server is killed and restarted", async () => {
    const ann = await Person.in(browser, server, "ann", "away");
    const bob = await Person.in(browser, server, "bob", "away");
    await ann.write("before");
    await bob.shows("before");

    bob.network.goOffline();
    await bob.at(".banner").waitFor();
    await bob.write("bob, offline");
    await bob.write("a mistake");
    const mistake = bob.at(".message").filter({ hasText: "a mistake" });
    expect(await mistake.getAttribute("data-state")).toBe("sending");
    await mistake.getByText("Cancel").click();
    expect(await mistake.getAttribute("data-state")).toBe("cancelled");
    await mistake.getByText("Discard").click();
    for (const text of ["one", "two", "three"]) await ann.write(text);
    await until("all is sent", async () => (await ann.at(".message[data-state=sent]").count()) === 4);

    await server.killNode();
    await ann.at(".banner").waitFor();
    await ann.write("ann, without a server");
    await server.startNode();
    await until("all is sent", async () => (await ann.at(".message[data-state=sent]").count()) === 5);
    await bob.comeBack();

    await until("both show the same", async () => {
      const [hers, his] = [await ann.shown(), await bob.shown()];
      return hers.length === 6 && hers.join() === his.join() && !hers.join().includes("undefined");
    });
    const texts = await ann.texts();
    expect(texts.slice(0, 4)).toEqual(["before", "one", "two", "three"]);
    expect([...texts].sort()).toEqual(["before", "bob, offline", "one", "two", "three", "ann, without a server"].sort());
    await bob.isLive();
    expect(await bob.at(".new").textContent()).toBe("4 new");
    expect(await bob.at("li:has(.new) + li .text").textContent()).toBe("one");
    await bob.at("textarea").press("Escape");
    await bob.at(".new").waitFor({ state: "detached" });
    await bob.at(".banner").waitFor({ state: "detached" });
  });

  it("find unsent and missed messages after a reload", async () => {
    const ann = await Person.in(browser, server, "ann", "reload");
    await say(server, "bob", "reload", { text: "seen" });
    await ann.shows("seen");
    ann.network.goOffline();
    await ann.at(".banner").waitFor();
    await ann.write("written offline");
    await until("it is stored in the browser", () =>
      ann.page.evaluate(async () => {
        const [stored] = (await indexedDB.databases()).filter(({ name }) => name === "roomlog ann");
        return stored !== undefined && new Promise<boolean>((resolve) => {
          const opening = indexedDB.open("roomlog ann");
          opening.onsuccess = () => {
            const counting = opening.result.transaction("outbox").objectStore("outbox").count();
            counting.onsuccess = () => (opening.result.close(), resolve(counting.result === 1));
          };
        });
      }),
    );
    await say(server, "bob", "reload", { text: "missed" });
    await ann.page.goto("about:blank");
    ann.network.goOnline();
    await ann.visit("reload");
    await ann.shows("written offline");
    await ann.isLive();
    expect(await ann.texts()).toEqual(["seen", "missed", "written offline"]);
    expect(await ann.at(".new").textContent()).toBe("1 new");
  });
});

describe("without --dev", () => {
  it("the page accepts a token, shows errors, and lets the user retry", async () => {
    const strict = await Server.start();
    others.push(strict);
    const ann = await Person.arrive(browser, strict);
    await ann.visit("readable");
    const signIn = async (text: string): Promise<void> => {
      await ann.page.fill("[name=token]", text);
      await ann.page.click("button.primary");
    };
    await signIn("nonsense");
    await until("it explains the format of a token", async () => (await ann.page.textContent("[role=alert]"))?.includes("three parts"));
    await signIn(`${token("ann")}x`);
    await until("it shows the server's reason", async () => /^The token is not signed with .+\.$/.test((await ann.page.locator("[role=alert]").allTextContents()).join()));
    await signIn(token("ann", { rooms: { readable: ["read"] } }));
    await ann.isLive();
    await ann.write("may I?");
    await until("it failed", async () => (await ann.at(".message").getAttribute("data-state")) === "failed");
    expect(await ann.at(".message .state").textContent()).toBe("Not sent: the token does not grant `write` on this room");
    await ann.at(".message").getByText("Try again").click();
    await until("it failed again", async () => (await ann.at(".message").getAttribute("data-state")) === "failed");
    await ann.at(".message").getByText("Discard").click();
    await ann.at(".message").waitFor({ state: "detached" });
    await ann.page.keyboard.press("Control+k");
    await ann.page.locator(".switcher input").fill("secret");
    await ann.page.keyboard.press("Enter");
    await until("access is denied", async () => (await ann.at(".banner").textContent())?.includes("You don't have access to this room."));
  });
});
