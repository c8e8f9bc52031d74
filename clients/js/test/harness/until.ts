// Waiting for conditions: tests wait for nothing else.

/** Waits until a condition holds. Fails with its name if that takes far too long. */
export async function until<T>(what: string, holds: () => T | Promise<T>, within = 30_000): Promise<Exclude<T, false | null | undefined>> {
  const deadline = Date.now() + within;
  for (;;) {
    const value = await holds();
    if (value) return value as Exclude<T, false | null | undefined>;
    if (Date.now() > deadline) throw new Error(`timed out waiting until ${what}`);
    await pause(5);
  }
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
