// The guide "Add chat to your app", followed to its end: its files in an Express backend and a React app, used by two people.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import express from "express";
import session from "express-session";
import { endAll, SECRET, startServer } from "../server.mjs";
import { file, folder } from "./blocks.mjs";
import { startChromium } from "./site.mjs";

const PAGE = "add-chat.md";
const PACKAGES = join(import.meta.dirname, "../node_modules");

let browser;
before(async () => {
  browser = await startChromium();
});
after(async () => {
  await browser.close();
  endAll();
});

/** Starts an app that has a login, and no chat yet except for what the guide adds. */
async function startApp(chatToken) {
  const app = express();
  app.use(session({ secret: "of the app", resave: false, saveUninitialized: false }));
  app.get("/login/:user", (request, response) => {
    request.session.user = request.params.user;
    response.redirect("/");
  });
  app.get("/chat-token", chatToken);
  const server = app.listen(0, "127.0.0.1").unref();
  await new Promise((resolve) => server.once("listening", resolve));
  return { app, url: `http://127.0.0.1:${server.address().port}` };
}

/** Bundles the guide's components into one script, which shows the app to the user in the page's title. */
async function bundle(roomlog) {
  const main = `
    import { createRoot } from "react-dom/client";
    import { App } from "./App.jsx";
    createRoot(document.body).render(<App user={document.title} />);
  `;
  const names = ["App.jsx", "Chat.jsx", "chat-client.js"];
  const shown = Object.fromEntries(names.map((name) => [name, file(PAGE, `web/${name}`, name === "chat-client.js" ? { "http://127.0.0.1:8080": roomlog } : {})]));
  const entry = join(folder({ ...shown, "main.jsx": main }), "main.jsx");
  // One React, though the client in the repository has another one for its tests.
  const alias = Object.fromEntries(["react", "react-dom"].map((name) => [name, join(PACKAGES, name)]));
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, write: false, jsx: "automatic", nodePaths: [PACKAGES], alias, platform: "browser", format: "esm" });
  return outputFiles[0].text;
}

/** Imports a module of the backend that the guide shows. */
async function backend(name) {
  const source = file(PAGE, `backend/${name}`);
  const home = folder({ [name]: source });
  const { outputFiles } = await build({ entryPoints: [join(home, name)], bundle: true, write: false, nodePaths: [PACKAGES], platform: "node", format: "esm" });
  return import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`);
}

test("two users of the app chat, and the backend writes to them", async () => {
  process.env.ROOMLOG_AUTH__HS256_SECRET = SECRET;
  const { chatToken } = await backend("chat-token.js");
  const web = await startApp(chatToken);
  const roomlog = await startServer({}, "--allow-origin", web.url);
  process.env.ROOMLOG_URL = roomlog.url;
  const script = await bundle(roomlog.url);
  web.app.get("/", (request, response) => response.send(`<!doctype html><title>${request.session.user}</title><body><script type="module" src="/app.js"></script>`));
  web.app.get("/app.js", (_, response) => response.type("js").send(script));

  assert.equal((await fetch(`${web.url}/chat-token`)).status, 401, "without a login there is no token");
  const [ann, bob] = await Promise.all(
    ["ann", "bob"].map(async (user) => {
      const page = await (await browser.newContext()).newPage();
      page.on("pageerror", (error) => assert.fail(error));
      await page.goto(`${web.url}/login/${user}`);
      await page.waitForSelector("form");
      return page;
    }),
  );
  const write = async (page, text) => {
    await page.fill("input", text);
    await page.click("text=Send");
  };
  await write(ann, "hello");
  await bob.waitForSelector("li.sent:has-text('ann hello')");
  await bob.locator("input").pressSequentially("hi");
  await ann.waitForSelector("text=bob …");
  await bob.click("text=Send");
  await ann.waitForSelector("li.sent:has-text('bob hi')");

  const { announce } = await backend("announce.js");
  const key = randomUUID();
  for (let n = 0; n < 2; n++) await announce("chat.general", key, "your order is on its way");
  await ann.waitForSelector("li:has-text('shop your order is on its way')");
  await assert.rejects(announce("private", randomUUID(), "hello"), /grant/);

  await bob.reload();
  await bob.waitForSelector("li:has-text('your order')");
  const lines = await bob.locator("li").allTextContents();
  assert.deepEqual(lines, ["ann hello", "bob hi", "shop your order is on its way"]);
  await roomlog.end();
});
