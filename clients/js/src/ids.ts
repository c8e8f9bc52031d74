// Message ids, `<ms>-<seq>`: their order, and whether one follows another directly.

/** Returns an id's two numbers. */
export function parseId(id: string): [ms: number, seq: number] {
  const dash = id.indexOf("-");
  return [Number(id.slice(0, dash)), Number(id.slice(dash + 1))];
}

/** Returns the time at which the server stored a message, from its id. */
export const timeOf = (id: string): Date => new Date(parseId(id)[0]);

/** Returns a negative number if `a` comes before `b`. */
export function compareIds(a: string, b: string): number {
  const [ams, aseq] = parseId(a);
  const [bms, bseq] = parseId(b);
  return ams - bms || aseq - bseq;
}

/** Returns the position right before a message. */
export function before(id: string): string {
  const [ms, seq] = parseId(id);
  return `${ms}-${seq - 1}`;
}

/** Tells whether `id` comes right after `position`, with nothing between them. */
export const follows = (position: string, id: string): boolean =>
  compareIds(id, position) > 0 && parseId(id)[1] === parseId(position)[1] + 1;
