// One room: its header, messages and composer.
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { KeyboardEvent } from "react";
import { useConnection, useRoom } from "@roomlog/client/react";
import { DIRECT, inboxOf, partnerIn, titleOf } from "../session/direct.ts";
import type { Session } from "../session/session.ts";
import { Icon } from "../ui/icon.tsx";
import type { Panel } from "../workspace/use-route.ts";
import { EndedBanner, FailureBanner, OfflineBanner } from "./banners.tsx";
import { Composer } from "./composer.tsx";
import type { ComposerHandle } from "./composer.tsx";
import { Header } from "./header.tsx";
import { Log } from "./log.tsx";
import type { LogHandle } from "./log.tsx";
import { MessageRow } from "./message.tsx";
import { useMissed, useVisible } from "./missed.ts";
import { Note } from "./note.tsx";
import { seqOf, timeline } from "./timeline.ts";
import type { Row } from "./timeline.ts";
import { useActions } from "./use-actions.ts";
import { useTarget } from "./use-target.ts";
import { useUnsent } from "./use-unsent.ts";

interface Props {
  room: string;
  session: Session;
  isOpen: boolean;
  /** The id of a message to show. */
  target: string | undefined;
  panel: Panel | undefined;
  onPanel: (panel: Panel) => void;
  onMessage: (person: string) => void;
  onLeave: () => void;
}

const START = { last: 50 };

/** The number of older messages to load at once. */
const PAGE = 200;

/** The position before the first message. */
const BEGINNING = "0-0";

export function Chat({ room, session, isOpen, target, panel, onPanel, onMessage, onLeave }: Props) {
  const { client, joined, people, user: me } = session;
  const connection = useConnection();
  const { messages, state, hasOlder, loadOlder, publish, typing, setTyping, gaps, dismiss, error, resume } = useRoom<unknown>(room, START);
  const [cancelled, unsent] = useUnsent({ publish, dismiss });
  const [isAtEnd, setAtEnd] = useState(true);
  const [failure, setFailure] = useState<string>();
  const isVisible = useVisible();
  const log = useRef<LogHandle>(null);
  const composer = useRef<ComposerHandle>(null);
  const title = titleOf(room, me);

  const newest = messages.findLast(({ state, id }) => state === "sent" && id !== undefined)?.id;
  const isWatched = isOpen && isVisible;
  const [missed, clearMissed] = useMissed({ state, isWatched, newest: newest ?? BEGINNING, seen: () => joined.seen(room) });
  useEffect(() => {
    if (newest !== undefined) joined.setNewest(room, newest);
    if (state === "live" && isWatched && isAtEnd) joined.markSeen(room, newest ?? BEGINNING);
  }, [joined, room, newest, state, isWatched, isAtEnd]);
  useEffect(() => people.note(room, messages.map(({ from }) => from || me)), [people, room, messages, me]);

  /** The other person learns of a direct conversation from their inbox, once for each visit of this page. */
  const isAnnounced = useRef(false);
  const send = (text: string): void => {
    const partner = partnerIn(room, me);
    if (partner !== undefined && !isAnnounced.current) {
      isAnnounced.current = true;
      client.room(inboxOf(partner)).publish(null, { type: DIRECT }).then(undefined, (error: Error) => setFailure(`${partner} may not see this conversation: ${error.message}.`));
    }
    publish({ text });
    clearMissed();
    log.current!.toEnd();
  };
  const [isLoading, setLoading] = useState(false);
  // Another function when a page has been loaded, so that the log asks for the next one if its start is still near.
  const loadMore = useCallback(() => {
    if (!isOpen || !hasOlder || isLoading || state !== "live") return;
    setLoading(true);
    loadOlder(PAGE).catch(() => {}).finally(() => setLoading(false));
  }, [isOpen, hasOlder, isLoading, loadOlder, state]);
  const escape = (event: KeyboardEvent): void => {
    // With nothing to do here, Escape closes the panel beside the room.
    if (event.key !== "Escape" || (missed === undefined && isAtEnd)) return;
    event.stopPropagation();
    clearMissed();
    log.current!.toEnd();
  };

  const rows = useMemo(() => {
    // A message that was just cancelled may still be among the others for a moment.
    const known = new Set(cancelled.map(({ key }) => key));
    const all = [...messages.filter(({ key }) => !known.has(key)), ...cancelled];
    // Before the first connection, the client does not know the sender of the user's own messages.
    const shown = all.map((message) => (message.id === undefined ? { ...message, from: me } : message));
    return timeline(shown, { gaps, missed, me, hasOlder: hasOlder || state === "catching_up" && messages.length === 0 });
  }, [messages, cancelled, gaps, missed, me, hasOlder, state]);
  const isOffline = connection.state !== "open";
  const actions = useActions({ room, session, unsent, composer, onMessage, onFailure: setFailure });
  const marked = useTarget({ target, rows, messages, hasOlder, loadOlder, log, isLive: state === "live" });
  const row = useCallback((row: Row, canFocus: boolean) => row.kind === "message" ? (
    <MessageRow
      message={row.message}
      isMine={row.message.from === me}
      first={row.first}
      last={row.last}
      isOffline={isOffline}
      isTarget={row.message.id !== undefined && row.message.id === marked}
      canFocus={canFocus}
      actions={actions}
    />
  ) : <Note row={row} />, [me, isOffline, marked, actions]);
  const others = typing.filter((user) => user !== me);
  const below = newest === undefined || isAtEnd ? 0 : seqOf(newest) - seqOf(joined.seen(room) ?? newest);
  const isWaiting = connection.state === "waiting" || (connection.state === "connecting" && state === "catching_up" && newest !== undefined);

  return (
    <section className="chat" aria-label={title} data-open={isOpen || undefined} inert={!isOpen}>
      <Header
        title={title}
        status={isOffline && state === "catching_up" && newest !== undefined ? "Not connected" : describe(newest, state)}
        panel={panel}
        onPanel={onPanel}
      />
      {isWaiting && <OfflineBanner {...connection} />}
      {(state === "ended" || state === "error") && error && <EndedBanner error={error} onResume={resume} onLeave={onLeave} />}
      {failure !== undefined && <FailureBanner text={failure} onClose={() => setFailure(undefined)} />}
      <div className="conversation" onKeyDown={escape}>
        <Log
          ref={log}
          label={`Messages in ${title}`}
          rows={rows}
          isBusy={state === "idle" || state === "catching_up"}
          isAtEnd={isAtEnd}
          onNearStart={loadMore}
          onEnd={setAtEnd}
        >
          {row}
        </Log>
        <div className="foot">
          {!isAtEnd && (
            <button type="button" className="to-end" onClick={() => log.current!.toEnd()}>
              <Icon name="down" /> {below > 0 ? `${below} new` : "Jump to latest"}
            </button>
          )}
          <p className="typing" aria-live="polite">{others.length > 0 && `${names(others)} typing…`}</p>
          <Composer ref={composer} title={title} isOpen={isOpen} onSend={send} onTyping={setTyping} />
        </div>
      </div>
    </section>
  );
}

function describe(newest: string | undefined, state: string): string {
  if (state === "catching_up") return "Catching up…";
  if (state === "ended") return "Disconnected from this room";
  if (newest === undefined) return "No messages yet";
  const count = seqOf(newest);
  return count === 1 ? "1 message so far" : `${count.toLocaleString("en")} messages so far`;
}

function names(users: string[]): string {
  if (users.length === 1) return `${users[0]} is`;
  return users.length > 3 ? "Several people are" : `${users.slice(0, -1).join(", ")} and ${users.at(-1)} are`;
}
