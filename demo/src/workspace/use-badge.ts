// The number of unread messages: in the title, on the tab's icon, and on the icon of the installed app.
import { useEffect } from "react";

/** The logo with a number in its corner. The page's own icon is in index.html. */
function iconWith(count: number): string {
  const text = count > 99 ? "99+" : String(count);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#3457d5"/>`
    + `<path d="M9 10h14M9 16h14M9 22h8" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round"/>`
    + `<rect x="${text.length > 1 ? 6 : 13}" y="13" width="${text.length > 1 ? 26 : 19}" height="19" rx="9.5" fill="#d3302f"/>`
    + `<text x="${text.length > 1 ? 19 : 22.5}" y="28" font-family="sans-serif" font-size="${text.length > 2 ? 12 : 15}" font-weight="700" fill="#fff" text-anchor="middle">${text}</text></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

const link = document.querySelector<HTMLLinkElement>("link[rel=icon]")!;
const plain = link.href;

/** @param title - What is open, without the name of the app. */
export function useBadge(title: string | undefined, unread: number): void {
  useEffect(() => {
    const name = title === undefined ? "Roomlog" : `${title} · Roomlog`;
    document.title = unread > 0 ? `(${unread}) ${name}` : name;
  }, [title, unread]);
  useEffect(() => {
    link.href = unread > 0 ? iconWith(unread) : plain;
    // Only installed apps have a badge; elsewhere the call is refused or missing.
    void navigator.setAppBadge?.(unread).catch(() => {});
    return () => void (link.href = plain);
  }, [unread]);
}
