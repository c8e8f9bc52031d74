// A relay of frames between a client and the real server, which loses frames as no network does.
import type { AddressInfo } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import type { ClientFrame, ServerFrame } from "../../src/protocol.js";
import { until } from "./until.js";

/** For clients that speak JSON. */
export class Relay {
  /** Changes a frame of the server, loses it with `undefined`, or makes several of it. */
  fromServer: (frame: ServerFrame) => ServerFrame | ServerFrame[] | undefined = (frame) => frame;
  /** Nothing gets through, while the connections stay open. */
  silent = false;
  /** Every frame that clients sent. */
  readonly sent: ClientFrame[] = [];
  connections = 0;
  private readonly server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => "roomlog.v1.json" });

  private constructor(private readonly target: string) {
    this.server.on("connection", (client) => this.accept(client));
  }

  static async to(url: string): Promise<Relay> {
    const relay = new Relay(`${url.replace("http", "ws")}/v1/ws`);
    await until("the relay listens", () => relay.server.address());
    return relay;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.server.address() as AddressInfo).port}/v1/ws`;
  }

  /** Ends all connections without a goodbye. */
  cut(): void {
    for (const client of this.server.clients) client.terminate();
  }

  close(): void {
    this.cut();
    this.server.close();
  }

  private accept(client: WebSocket): void {
    this.connections++;
    const upstream = new WebSocket(this.target, "roomlog.v1.json");
    const early: string[] = [];
    upstream.on("open", () => early.splice(0).forEach((text) => upstream.send(text)));
    client.on("message", (bytes) => {
      this.sent.push(JSON.parse(String(bytes)) as ClientFrame);
      if (this.silent) return;
      if (upstream.readyState === WebSocket.OPEN) upstream.send(String(bytes));
      else early.push(String(bytes));
    });
    upstream.on("message", (bytes) => {
      const frames = [JSON.parse(String(bytes)) as ServerFrame | ServerFrame[]].flat();
      const kept = frames.flatMap((frame) => this.fromServer(frame) ?? []);
      if (!this.silent && kept.length > 0) client.send(JSON.stringify(kept));
    });
    upstream.on("close", (code, reason) => (code === 1006 || code === 1005 ? client.terminate() : client.close(code, reason)));
    upstream.on("error", () => client.terminate());
    client.on("close", () => upstream.terminate());
    client.on("error", () => {});
  }
}
