// The network between a client and the server. It can be cut, be offline, and block what some networks block.
import { connect, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";

export interface Hindrances {
  /** Answers WebSockets with 403. */
  refuseUpgrades?: boolean;
  /** Holds event streams back until they end. */
  holdStreams?: boolean;
}

export class Proxy {
  private readonly pairs = new Set<[Socket, Socket]>();
  private online = true;
  private cutting = false;
  /** The first lines of the forwarded requests. */
  readonly requests: string[] = [];

  private constructor(
    private readonly server: Server,
    public hindrances: Hindrances,
  ) {}

  static async to(port: number, hindrances: Hindrances = {}): Promise<Proxy> {
    const server = createServer();
    const proxy = new Proxy(server, hindrances);
    server.on("connection", (client) => proxy.accept(client, port));
    server.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    return proxy;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** The address for clients. */
  get url(): string {
    return `ws://127.0.0.1:${this.port}/v1/ws`;
  }

  /** Ends all connections; with `midFrame`, in the middle of the next bytes from the server. */
  cut(midFrame = false): void {
    if (midFrame) this.cutting = true;
    else for (const [client, upstream] of this.pairs) destroy(client, upstream);
  }

  goOffline(): void {
    this.online = false;
    this.cut();
  }

  goOnline(): void {
    this.online = true;
  }

  close(): void {
    this.goOffline();
    this.server.close();
  }

  private accept(client: Socket, port: number): void {
    if (!this.online) return void client.destroy();
    const upstream = connect(port, "127.0.0.1");
    const pair: [Socket, Socket] = [client, upstream];
    this.pairs.add(pair);
    let held = false;
    client.on("data", (bytes) => {
      const line = /^(?:GET|POST|DELETE) \S+/.exec(bytes.toString("latin1"))?.[0];
      if (line) {
        this.requests.push(line);
        if (this.hindrances.refuseUpgrades && line.includes("/v1/ws")) {
          return void client.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
        held = !!this.hindrances.holdStreams && line.includes("/events");
      }
      upstream.write(bytes);
    });
    upstream.on("data", (bytes) => {
      if (held) return;
      if (this.cutting) {
        this.cutting = false;
        client.write(bytes.subarray(0, Math.ceil(bytes.length / 2)), () => destroy(client, upstream));
        return;
      }
      client.write(bytes);
    });
    for (const socket of pair) {
      socket.on("error", () => {});
      socket.on("close", () => {
        destroy(client, upstream);
        this.pairs.delete(pair);
      });
    }
  }
}

function destroy(...sockets: Socket[]): void {
  for (const socket of sockets) socket.destroy();
}
