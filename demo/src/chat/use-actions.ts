// What can be done with a message of a room, and with its author.
import { useMemo } from "react";
import type { RefObject } from "react";
import { may } from "../session/grants.ts";
import type { Session } from "../session/session.ts";
import { copyText } from "../ui/copy.ts";
import { useMenu } from "../ui/menu.tsx";
import type { MenuItem } from "../ui/menu.tsx";
import { sentence } from "../ui/sentence.ts";
import { personMenu } from "../workspace/person-menu.ts";
import { linkTo } from "../workspace/use-route.ts";
import type { ComposerHandle } from "./composer.tsx";
import type { StateActions } from "./message-state.tsx";
import type { MessageActions } from "./message.tsx";
import { quote, textOf } from "./text-of.ts";
import type { Shown } from "./timeline.ts";

interface Options {
  room: string;
  session: Session;
  unsent: StateActions;
  composer: RefObject<ComposerHandle | null>;
  onMessage: (person: string) => void;
  onFailure: (text: string) => void;
}

export function useActions({ room, session, unsent, composer, onMessage, onFailure }: Options): MessageActions {
  const openMenu = useMenu();
  const { onRetry, onCancel, onDiscard } = unsent;
  return useMemo(() => {
    const copy = (text: string): void => void copyText(text).catch(() => onFailure("The browser did not allow copying."));
    const onQuote = (message: Shown): void => composer.current!.insert(quote(message));
    const remove = (id: string): void => {
      session.deleteMessage(room, id).catch((error: Error) => onFailure(`The message was not deleted. ${sentence(error.message)}`));
    };
    const items = (message: Shown): MenuItem[] => {
      const { id } = message;
      const all: MenuItem[] = [
        { icon: "quote", label: "Quote", run: () => onQuote(message) },
        { icon: "copy", label: "Copy text", run: () => copy(textOf(message).text) },
      ];
      if (id === undefined) return all;
      all.push({ icon: "link", label: "Copy link", run: () => copy(location.origin + linkTo(room, id)) }, { icon: "tag", label: "Copy ID", run: () => copy(id) });
      if (may(session.grants(), "manage", room)) all.push({ icon: "bin", label: "Delete for everyone", isDangerous: true, run: () => remove(id) });
      return all;
    };
    return {
      onRetry,
      onCancel,
      onDiscard,
      onQuote,
      onMenu: (message, at) => openMenu({ label: `Message from ${message.from}`, at, items: items(message) }),
      onPerson: (name, at) => openMenu(personMenu(name, session.user, at, onMessage)),
    };
  }, [room, session, onRetry, onCancel, onDiscard, composer, onMessage, onFailure, openMenu]);
}
