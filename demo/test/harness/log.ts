// The log as a reader sees it: positions on the screen, and frames of the animation.
import type { Locator } from "playwright-core";

/** Whether the log is scrolled to its end. */
export const isAtEnd = (log: Locator): Promise<boolean> => log.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight < 2);

/** The key of the first message that is wholly visible, and its distance from the top of the window, once nothing moves any more. */
export const topmost = (log: Locator): Promise<{ key: string; top: number }> =>
  log.evaluate(async (box) => {
    const look = (): { key: string; top: number } => {
      const edge = box.getBoundingClientRect().top;
      const rows = [...box.querySelectorAll<HTMLElement>(".message")].map((row) => ({ key: row.dataset["key"]!, top: row.getBoundingClientRect().top }));
      return rows.filter(({ top }) => top >= edge).sort((a, b) => a.top - b.top)[0]!;
    };
    let [seen, still] = [look(), 0];
    while (still < 5) {
      await new Promise((resolve) => requestAnimationFrame(resolve));
      const now = look();
      still = now.key === seen.key && now.top === seen.top ? still + 1 : 0;
      seen = now;
    }
    return seen;
  });

export interface Frames {
  /** The time between frames, in milliseconds, sorted. */
  times: number[];
  /** The largest number of elements that the log had. */
  elements: number;
}

/** Scrolls through the log, by a fixed distance for each frame, and measures. */
export const scrollThrough = (log: Locator, from: number, step: number, frames: number): Promise<Frames> =>
  log.evaluate(async (box, [from, step, frames]) => {
    const frame = (): Promise<number> => new Promise((resolve) => requestAnimationFrame(resolve));
    box.scrollTop = from!;
    let before = await frame();
    const times: number[] = [];
    let elements = 0;
    for (let i = 0; i < frames!; i++) {
      box.scrollTop += step!;
      const now = await frame();
      times.push(now - before);
      before = now;
      elements = Math.max(elements, box.querySelectorAll("*").length);
    }
    return { times: times.sort((a, b) => a - b), elements };
  }, [from, step, frames]);

/** Scrolls up by a fixed distance for each frame, until the log is at its start, and returns by how much rows moved otherwise, at most. */
export const scrollUp = (log: Locator, step: number): Promise<number> =>
  log.evaluate(async (box, step) => {
    const places = (): Map<string, number> => {
      const edge = box.getBoundingClientRect();
      const rows = [...box.querySelectorAll<HTMLElement>(".message")].map((row) => ({ key: row.dataset["key"]!, top: row.getBoundingClientRect().top }));
      return new Map(rows.filter(({ top }) => top > edge.top && top < edge.bottom).map(({ key, top }) => [key, top]));
    };
    const frame = (): Promise<number> => new Promise((resolve) => requestAnimationFrame(resolve));
    let worst = 0;
    for (let atStart = 0; atStart < 60; ) {
      if (box.scrollTop < step) {
        // Older messages may be on their way.
        atStart++;
        await frame();
        continue;
      }
      atStart = 0;
      const before = places();
      box.scrollTop -= step;
      await frame();
      await frame();
      for (const [key, top] of places()) if (before.has(key)) worst = Math.max(worst, Math.abs(top - before.get(key)! - step));
    }
    return worst;
  }, step);
