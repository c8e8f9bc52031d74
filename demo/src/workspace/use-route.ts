// The open room and panel, in step with the browser's history: each room has a URL, Back goes to the room before, and on a phone it closes
// the panel that covers the room.
import { useCallback, useEffect, useState } from "react";
import { isRoomName } from "@roomlog/client";

export type Panel = "rooms" | "people" | "frames";

export interface Route {
  room: string | undefined;
  /** The id of a message to show. */
  message?: string;
  panel: Panel | undefined;
}

/** A screen on which panels cover the room, as in the style sheet. */
const isNarrow = (): boolean => matchMedia("(max-width: 64rem)").matches;

/** A screen with room for a third column. */
const isWide = (): boolean => matchMedia("(min-width: 87.5rem)").matches;

/** The link to a room or, with an id, to one of its messages: `/#chat.general/1795331063141-1`. */
export const linkTo = (room: string, id?: string): string => `${location.pathname}#${room}${id === undefined ? "" : `/${id}`}`;

function read(): Route {
  const [room = "", message] = decodeURIComponent(location.hash.slice(1)).split("/");
  const panel = (history.state as { panel?: Panel } | null)?.panel;
  return { room: isRoomName(room) ? room : undefined, panel, ...(message !== undefined && { message }) };
}

export interface Navigation {
  route: Route;
  open(room: string | undefined): void;
  toggle(panel: Panel): void;
  closePanel(): void;
}

/** @param first - The room to open if the URL names none. */
export function useRoute(first: string | undefined): Navigation {
  const [route, setRoute] = useState<Route>(() => {
    const { room = first, message } = read();
    return { room, panel: isWide() ? "people" : undefined, ...(message !== undefined && { message }) };
  });

  useEffect(() => {
    // A reload keeps the state of the history, but no panel is open after it.
    history.replaceState(null, "", location.hash === "" && first !== undefined ? linkTo(first) : undefined);
    const moved = (): void => setRoute((before) => {
      const now = read();
      // Only a panel that covers the room is a step of the history.
      return isNarrow() ? now : { ...now, panel: before.panel };
    });
    addEventListener("popstate", moved);
    return () => removeEventListener("popstate", moved);
  }, [first]);

  const isStep = (): boolean => (history.state as { panel?: Panel } | null)?.panel !== undefined;
  const closePanel = useCallback(() => {
    if (isStep()) history.back();
    else setRoute((route) => ({ ...route, panel: undefined }));
  }, []);
  const open = useCallback((room: string | undefined) => {
    const url = room === undefined ? location.pathname : linkTo(room);
    // The panel in which the room was chosen gives its step to the room.
    if (isStep()) history.replaceState(null, "", url);
    else if (room !== read().room) history.pushState(null, "", url);
    setRoute(({ panel }) => ({ room, panel: isNarrow() ? undefined : panel }));
  }, []);
  const toggle = (panel: Panel): void => {
    if (route.panel === panel) return closePanel();
    if (isNarrow()) history[isStep() ? "replaceState" : "pushState"]({ panel }, "");
    setRoute({ ...route, panel });
  };
  return { route, open, toggle, closePanel };
}
