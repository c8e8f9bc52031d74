// The errors of the server over HTTP, by RFC 9457.
import { RoomlogError } from "./errors.js";

/** Returns the error of a refused request. Undefined if there is no code: the answer is of a proxy. */
export async function problemOf(response: Response): Promise<RoomlogError | undefined> {
  const problem = (await response.json().catch(() => ({}))) as { code?: string; detail?: string; retry_after_ms?: number };
  const { code, detail, retry_after_ms: retryAfterMs } = problem;
  return code === undefined ? undefined : new RoomlogError(code, detail ?? statusOf(response), { retryAfterMs });
}

/** Describes an answer that gives no reason. */
export const statusOf = ({ status }: Response): string => `the server answered with the HTTP status ${status}`;
