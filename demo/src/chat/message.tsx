// One message: its author, text and state.
import { memo, useState } from "react";
import type { KeyboardEvent, MouseEvent } from "react";
import { DIRECT } from "../session/direct.ts";
import { Avatar, hueStyle } from "../ui/avatar.tsx";
import { Icon } from "../ui/icon.tsx";
import { useLongPress } from "../ui/long-press.ts";
import type { Menu } from "../ui/menu.tsx";
import { below } from "../ui/menu.tsx";
import { clock, fullTime } from "../ui/time.ts";
import { isLoneEmoji, isLong, Markdown } from "./markdown.tsx";
import { MessageState } from "./message-state.tsx";
import type { StateActions } from "./message-state.tsx";
import { textOf } from "./text-of.ts";
import { timeOf } from "./timeline.ts";
import type { Shown } from "./timeline.ts";

export interface MessageActions extends StateActions {
  onMenu: (message: Shown, at: Menu["at"]) => void;
  onPerson: (name: string, at: Menu["at"]) => void;
  onQuote: (message: Shown) => void;
}

interface Props {
  message: Shown;
  isMine: boolean;
  /** Whether this is the first, or the last, of consecutive messages of one sender. */
  first: boolean;
  last: boolean;
  isOffline: boolean;
  isTarget: boolean;
  canFocus: boolean;
  actions: MessageActions;
}

export const MessageRow = memo(function MessageRow({ message, isMine, first, last, isOffline, isTarget, canFocus, actions }: Props) {
  const { id, key, from, type, state } = message;
  const at = id === undefined ? undefined : timeOf(id);
  const openMenu = (at: Menu["at"]): void => actions.onMenu(message, at);
  const press = useLongPress(openMenu);

  const contextMenu = (event: MouseEvent): void => {
    // The browser's own menu is the better one for links and selected text.
    if ((event.target as Element).closest("a") || !getSelection()!.isCollapsed) return;
    event.preventDefault();
    openMenu({ x: event.clientX, y: event.clientY });
  };
  const keyDown = (event: KeyboardEvent): void => {
    if (event.target !== event.currentTarget || event.key !== "Enter") return;
    event.preventDefault();
    openMenu(below(event.currentTarget.querySelector(".text")!));
  };

  return (
    <article
      className="message"
      data-key={key}
      data-id={id}
      data-mine={isMine || undefined}
      data-state={state}
      data-first={first || undefined}
      data-target={isTarget || undefined}
      aria-label={at === undefined ? from : `${from}, ${clock(at)}`}
      tabIndex={canFocus ? 0 : -1}
      onContextMenu={contextMenu}
      onKeyDown={keyDown}
      {...press}
    >
      {first ? (
        // The name is a button, too.
        <button type="button" className="person" tabIndex={-1} aria-hidden="true" onClick={({ currentTarget }) => actions.onPerson(from, below(currentTarget))}>
          <Avatar name={from} />
        </button>
      ) : at !== undefined && <time className="gutter" dateTime={new Date(at).toISOString()} title={fullTime(at)}>{clock(at)}</time>}
      <div className="body">
        {first && (
          <p className="from">
            <button type="button" className="author" tabIndex={-1} style={hueStyle(from)} aria-haspopup="menu" onClick={({ currentTarget }) => actions.onPerson(from, below(currentTarget))}>{from}</button>
            {at !== undefined && <time dateTime={new Date(at).toISOString()} title={fullTime(at)}>{clock(at)}</time>}
            {type !== "message" && type !== DIRECT && <span className="type">{type}</span>}
          </p>
        )}
        <Content message={message} />
        <MessageState message={message} isMine={isMine} last={last} isOffline={isOffline} actions={actions} />
      </div>
      <div className="tools">
        <button type="button" className="quiet" tabIndex={-1} aria-label="Quote" title="Quote" onClick={() => actions.onQuote(message)}><Icon name="quote" /></button>
        <button type="button" className="quiet" tabIndex={-1} aria-label="More" title="More" aria-haspopup="menu" onClick={({ currentTarget }) => openMenu(below(currentTarget))}><Icon name="more" /></button>
      </div>
    </article>
  );
});

function Content({ message }: { message: Shown }) {
  const [isUnfolded, setUnfolded] = useState(false);
  const { text, isPlain } = textOf(message);
  const isFoldable = isLong(text);
  return (
    <>
      <div
        className="text"
        data-plain={isPlain || undefined}
        data-folded={(isFoldable && !isUnfolded) || undefined}
        data-emoji={(isPlain && isLoneEmoji(text)) || undefined}
      >
        {isPlain ? <Markdown text={text} /> : text}
      </div>
      {isFoldable && <button type="button" className="link" aria-expanded={isUnfolded} onClick={() => setUnfolded(!isUnfolded)}>{isUnfolded ? "Show less" : "Show more"}</button>}
    </>
  );
}
