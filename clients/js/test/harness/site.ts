// A site whose page runs the client in the browser, see `page.tsx`.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import { build } from "esbuild";

export class Site {
  private readonly server = createServer();

  private constructor(script: string) {
    this.server.on("request", (request, response) => {
      const isScript = request.url === "/page.js";
      response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
      response.end(isScript ? script : `<!doctype html><meta charset="utf-8"><body></body><script src="/page.js"></script>`);
    });
  }

  static async start(): Promise<Site> {
    const { outputFiles } = await build({
      entryPoints: [resolve(import.meta.dirname, "page.tsx")],
      bundle: true,
      write: false,
      format: "iife",
      jsx: "automatic",
      define: { "process.env.NODE_ENV": '"development"' },
    });
    const site = new Site(outputFiles[0]!.text);
    site.server.listen(0, "127.0.0.1");
    await new Promise((resolve) => site.server.once("listening", resolve));
    return site;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`;
  }

  end(): void {
    this.server.close();
    this.server.closeAllConnections();
  }
}
