// Requests that await an answer, by their `ref`.
import { RoomlogError } from "./errors.js";
import type { Answer, Ok, Op } from "./protocol.js";

/** Takes the answer to a request, or the reason why there is none. */
export type Settle<K extends Op> = (answer: Answer<K> | RoomlogError) => void;

export class Answers {
  #ref = 0;
  /** Of any request: the `ref` alone ties an answer to the type that was asked for. */
  readonly #awaited = new Map<number, Settle<any>>();

  /** Awaits an answer, and returns the `ref` for it. */
  expect<K extends Op>(settle: Settle<K>): number {
    this.#awaited.set(++this.#ref, settle);
    return this.#ref;
  }

  /** Hands an answer to the caller that awaits it. Returns false if there is none. */
  settle(ref: number | undefined, answer: Ok | RoomlogError): boolean {
    const settle = this.#awaited.get(ref!);
    this.#awaited.delete(ref!);
    settle?.(answer);
    return !!settle;
  }

  /** Answers all that is awaited: no answer will come. */
  fail(why: string): void {
    for (const ref of [...this.#awaited.keys()]) this.settle(ref, new RoomlogError("disconnected", why));
  }
}
