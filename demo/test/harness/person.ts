// A user of the page: a browser window with a network of its own, which tests can cut.
import type { Browser, BrowserContext, BrowserContextOptions, Locator, Page } from "playwright-core";
import { Proxy } from "../../../clients/js/test/harness/proxy.ts";
import type { Server } from "../../../clients/js/test/harness/server.ts";
import { until } from "../../../clients/js/test/harness/until.ts";

/** The browser's errors about an unreachable network, which tests cause on purpose. */
const EXPECTED = /WebSocket connection to|ERR_|status of 40[34]/;

const all: Person[] = [];

/** Closes all windows and returns their other errors. */
export async function endAll(): Promise<string[]> {
  const complaints: string[] = [];
  for (const person of all.splice(0)) complaints.push(...(await person.end()));
  return complaints;
}

export class Person {
  private readonly complaints: string[] = [];

  private constructor(
    private readonly context: BrowserContext,
    readonly network: Proxy,
    readonly page: Page,
  ) {}

  /** Opens a window without a page or a user. */
  static async arrive(browser: Browser, server: Server, options: BrowserContextOptions = {}): Promise<Person> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce", ...options });
    const person = new Person(context, await Proxy.to(server.port), await context.newPage());
    const { page, complaints } = person;
    page.on("console", (message) => message.type() === "error" && !EXPECTED.test(message.text()) && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    all.push(person);
    return person;
  }

  /** Opens a window in which the user has joined a room. */
  static async in(browser: Browser, server: Server, user: string, room: string, options: BrowserContextOptions = {}): Promise<Person> {
    const person = await Person.arrive(browser, server, options);
    await person.visit(room);
    await person.signIn(user);
    return person;
  }

  async signIn(user: string): Promise<void> {
    await this.page.fill("[name=user]", user);
    await this.page.click("button.primary");
    await this.isLive();
  }

  visit = (room: string): Promise<unknown> => this.page.goto(`http://127.0.0.1:${this.network.port}/#${room}`);

  /** Locates elements in the open room. */
  at = (selector: string): Locator => this.page.locator(`.chat[data-open] ${selector}`);

  isLive = (): Promise<unknown> => until("the room is live", async () => (await this.at(".log").getAttribute("aria-busy")) === "false");

  async write(text: string): Promise<void> {
    await this.at("textarea").fill(text);
    await this.at("textarea").press("Enter");
  }

  /** Opens a room that may not be in the list yet, as its user would: Ctrl+K, its name, Enter. */
  async join(room: string): Promise<void> {
    await this.page.keyboard.press("Control+k");
    await this.page.locator(".switcher input").fill(room);
    await this.page.keyboard.press("Enter");
    await until(`${room} is open`, async () => (await this.page.evaluate(() => location.hash)) === `#${room}`);
    await this.isLive();
  }

  /** Opens the menu of a message. */
  async openMenu(text: string): Promise<Locator> {
    await this.at(".message").filter({ hasText: text }).last().locator(".text").click({ button: "right" });
    const menu = this.page.locator("dialog.menu");
    await menu.waitFor();
    return menu;
  }

  /** Restores the network and clicks "Try now", unless the page has already reconnected. */
  async comeBack(): Promise<void> {
    this.network.goOnline();
    await until("the connection is back", async () => {
      await this.at(".banner button").click({ timeout: 500 }).catch(() => {});
      return (await this.at(".banner").count()) === 0;
    });
  }

  /** The id and text of each shown message. */
  shown = (): Promise<string[]> =>
    this.at(".message").evaluateAll((rows) => rows.map((row) => `${(row as HTMLElement).dataset["id"]} ${row.querySelector(".text")!.textContent}`));

  texts = async (): Promise<string[]> => (await this.shown()).map((line) => line.slice(line.indexOf(" ") + 1));

  shows = async (text: string): Promise<void> => void (await until(`it shows ${text}`, async () => (await this.texts()).includes(text)));

  async end(): Promise<string[]> {
    await this.context.close();
    this.network.close();
    return this.complaints;
  }
}
