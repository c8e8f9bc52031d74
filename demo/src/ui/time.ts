// Times as people write them.

const time = new Intl.DateTimeFormat([], { hour: "numeric", minute: "2-digit" });
const day = new Intl.DateTimeFormat([], { weekday: "long", day: "numeric", month: "long" });
const full = new Intl.DateTimeFormat([], { dateStyle: "full", timeStyle: "medium" });

export const clock = (at: number): string => time.format(at);

export const fullTime = (at: number): string => full.format(at);

export function dayName(at: number): string {
  const days = Math.round((startOfDay(Date.now()) - startOfDay(at)) / 86_400_000);
  return days === 0 ? "Today" : days === 1 ? "Yesterday" : day.format(at);
}

const startOfDay = (at: number): number => new Date(at).setHours(0, 0, 0, 0);
