// Requests that await an answer, by their `ref`.
import { RoomlogError } from "./errors.js";
import type { Answer, Ok, Op } from "./protocol.js";

/** Takes the answer to a request, or the error in its place. */
export type Settle<K extends Op> = (answer: Answer<K> | RoomlogError) => void;

export class Answers {
  #ref = 0;
  /** Of requests of every type: only the `ref` ties an answer to the type of its request. */
  readonly #awaited = new Map<number, Settle<any>>();

  /** Awaits an answer, and returns the `ref` that it will have. */
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

  /** Fails every awaited answer, since none will come. */
  fail(why: string): void {
    for (const ref of [...this.#awaited.keys()]) this.settle(ref, new RoomlogError("disconnected", why));
  }
}
