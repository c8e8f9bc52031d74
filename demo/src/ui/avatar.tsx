// The initials of a person on a colour of their own, the same on every device.
import type { CSSProperties } from "react";

const letters = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** The first letters of the first two words, or the first two letters of a single word. */
export function initials(name: string): string {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter((word) => word !== "");
  const [first = name, second] = words;
  const [a = "?", b = ""] = [...letters.segment(first)].map(({ segment }) => segment);
  const other = second === undefined ? b : [...letters.segment(second)][0]!.segment;
  return (a + other).toLocaleUpperCase();
}

/** The golden angle spreads similar hashes over the circle. */
const GOLDEN_ANGLE = 137.508;

/** A hue in degrees, by a hash of the name (FNV-1a). */
export function hueOf(name: string): number {
  let hash = 0x811c9dc5;
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193);
  return Math.round(((hash >>> 0) * GOLDEN_ANGLE) % 360);
}

/** Sets the hue that the style sheet turns into a colour for the light or the dark theme. */
export const hueStyle = (name: string): CSSProperties => ({ "--hue": hueOf(name) }) as CSSProperties;

export function Avatar({ name }: { name: string }) {
  return <span className="avatar" style={hueStyle(name)} aria-hidden="true">{initials(name)}</span>;
}
