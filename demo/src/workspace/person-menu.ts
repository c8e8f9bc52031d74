// The menu of a person.
import { directRoom } from "../session/direct.ts";
import { copyText } from "../ui/copy.ts";
import type { Menu } from "../ui/menu.tsx";

export function personMenu(name: string, me: string, at: Menu["at"], onMessage: (person: string) => void): Menu {
  const copy = { icon: "copy", label: "Copy name", run: () => void copyText(name).catch(() => {}) } as const;
  const message = { icon: "message", label: `Message ${name}`, run: () => onMessage(name) } as const;
  return { label: name, at, items: directRoom(me, name) === undefined ? [copy] : [message, copy] };
}
