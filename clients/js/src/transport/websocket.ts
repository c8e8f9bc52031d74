// Frames over a WebSocket.
import { framesOf } from "../codec.js";
import { RoomlogError } from "../errors.js";
import type { ClientFrame } from "../protocol.js";
import type { Environment, Transport, TransportEvents } from "./transport.js";

export class WebSocketTransport implements Transport {
  limit = Infinity;
  readonly #socket: WebSocket;
  #over = false;

  readonly #environment: Environment;

  constructor(environment: Environment, Socket: typeof WebSocket, events: TransportEvents) {
    this.#environment = environment;
    const { codec, socketUrl } = environment;
    this.#socket = new Socket(socketUrl, `roomlog.v1.${codec.encoding}`);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#over || events.opened();
    this.#socket.onmessage = ({ data }) => {
      if (this.#over) return;
      events.heard();
      let frames;
      try {
        frames = framesOf(codec.decode(data));
      } catch (error) {
        this.close();
        events.closed({ message: `the server sent a message that cannot be decoded: ${String(error)}` });
        return;
      }
      events.frames(frames);
    };
    this.#socket.onclose = ({ code, reason }) => {
      if (this.#over) return;
      this.#over = true;
      events.closed({ code, message: reason });
    };
    // `close` follows, with the reason.
    this.#socket.onerror = () => {};
  }

  send(frame: ClientFrame): void {
    const bytes = this.#environment.codec.encode(frame);
    const size = typeof bytes === "string" ? new TextEncoder().encode(bytes).length : bytes.length;
    if (size > this.limit) {
      throw new RoomlogError("too_large", `the request has ${size} bytes, and the server accepts at most ${this.limit}`);
    }
    // The event of a closing socket follows; a request that is sent now is lost with it.
    if (this.#socket.readyState === 1) this.#socket.send(bytes);
  }

  close(): void {
    this.#over = true;
    this.#socket.close(1000);
  }
}
