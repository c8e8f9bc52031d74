// A long press on a touch screen, where the browser gives no `contextmenu` event for it, as on iOS.
import { useRef } from "react";
import type { PointerEvent } from "react";

const LONG_MS = 500;

/** A finger never rests quite still. */
const SLACK_PX = 10;

type Press = Pick<PointerEvent, "clientX" | "clientY">;

/** Returns the handlers of the element that is pressed. */
export function useLongPress(onLongPress: (at: { x: number; y: number }) => void) {
  const press = useRef<{ timer: ReturnType<typeof setTimeout>; at: Press }>(undefined);
  const end = (): void => clearTimeout(press.current?.timer);
  return {
    onPointerDown: ({ pointerType, clientX, clientY }: PointerEvent) => {
      end();
      if (pointerType !== "touch") return;
      press.current = { at: { clientX, clientY }, timer: setTimeout(() => onLongPress({ x: clientX, y: clientY }), LONG_MS) };
    },
    onPointerMove: ({ clientX, clientY }: PointerEvent) => {
      const at = press.current?.at;
      if (at && Math.hypot(clientX - at.clientX, clientY - at.clientY) > SLACK_PX) end();
    },
    onPointerUp: end,
    onPointerCancel: end,
  };
}
