// A menu at the pointer, or a sheet at the lower edge of a phone. One is open at a time. As a modal dialog it keeps the focus, and
// Escape and the Back gesture close it.
import { createContext, useContext, useLayoutEffect, useRef, useState } from "react";
import type { KeyboardEvent, ReactNode } from "react";
import { Icon } from "./icon.tsx";
import type { IconName } from "./icon.tsx";

export interface MenuItem {
  icon: IconName;
  label: string;
  isDangerous?: boolean;
  run: () => void;
}

export interface Menu {
  /** Names the menu for screen readers. */
  label: string;
  items: MenuItem[];
  /** A corner of the menu, in pixels of the window. */
  at: { x: number; y: number };
}

const Context = createContext<(menu: Menu) => void>(() => {});

/** Returns a function that opens a menu. */
export const useMenu = (): ((menu: Menu) => void) => useContext(Context);

/** The place for a menu that a button opens: below the button. */
export function below(element: Element): Menu["at"] {
  const { left, bottom } = element.getBoundingClientRect();
  return { x: left, y: bottom + 4 };
}

export function MenuProvider({ children }: { children: ReactNode }) {
  const [menu, setMenu] = useState<Menu>();
  return (
    <Context value={setMenu}>
      {children}
      {menu && <OpenMenu menu={menu} onClose={() => setMenu(undefined)} />}
    </Context>
  );
}

function OpenMenu({ menu, onClose }: { menu: Menu; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const { label, items, at } = menu;

  useLayoutEffect(() => {
    const element = dialog.current!;
    element.showModal();
    const { width, height } = element.getBoundingClientRect();
    element.style.left = `${Math.max(8, Math.min(at.x, innerWidth - width - 8))}px`;
    element.style.top = `${Math.max(8, Math.min(at.y, innerHeight - height - 8))}px`;
    return () => element.close();
  }, [at]);

  const move = (event: KeyboardEvent): void => {
    const buttons = [...dialog.current!.querySelectorAll("button")];
    const now = buttons.indexOf(document.activeElement as HTMLButtonElement);
    const count = buttons.length;
    const to = { ArrowDown: (now + 1) % count, ArrowUp: (now + count - 1) % count, Home: 0, End: count - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    buttons[to]!.focus();
  };

  return (
    <dialog
      ref={dialog}
      className="menu"
      onClose={onClose}
      onKeyDown={move}
      // Only a press outside the menu has the dialog itself as its target.
      onPointerDown={(event) => event.target === dialog.current && dialog.current.close()}
      onContextMenu={(event) => event.preventDefault()}
    >
      <div role="menu" aria-label={label}>
        {items.map(({ icon, label, isDangerous, run }) => (
          <button
            key={label}
            type="button"
            role="menuitem"
            data-dangerous={isDangerous || undefined}
            onClick={() => {
              // First, so that the focus can go elsewhere.
              dialog.current!.close();
              run();
            }}
          >
            <Icon name={icon} /> {label}
          </button>
        ))}
      </div>
    </dialog>
  );
}
