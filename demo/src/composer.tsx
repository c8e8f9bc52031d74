// The message field. Enter sends, Shift+Enter starts a new line.
import { useLayoutEffect, useRef, useState } from "react";
import type { KeyboardEvent } from "react";
import { Icon } from "./components.tsx";

interface Props {
  room: string;
  isOpen: boolean;
  onSend: (text: string) => void;
  onTyping: (typing: boolean) => void;
}

export function Composer({ room, isOpen, onSend, onTyping }: Props) {
  const [text, setText] = useState("");
  const field = useRef<HTMLTextAreaElement>(null);

  // On a touch screen, the keyboard would cover half of the messages.
  useLayoutEffect(() => {
    if (isOpen && matchMedia("(hover: hover)").matches) field.current!.focus();
  }, [isOpen]);

  const send = (): void => {
    if (text.trim() === "") return;
    onSend(text.trimEnd());
    setText("");
    field.current!.focus();
  };
  const key = (event: KeyboardEvent): void => {
    // During the composition of a character, Enter belongs to the input method.
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    send();
  };

  return (
    <form className="composer" onSubmit={(event) => (event.preventDefault(), send())}>
      {/* The style sheet renders the same text beneath the field, which makes the field as high as its text. */}
      <div className="field" data-text={text}>
        <textarea
          ref={field}
          rows={1}
          value={text}
          placeholder={`Message ${room}`}
          aria-label={`Message to ${room}`}
          enterKeyHint="send"
          onKeyDown={key}
          onChange={(event) => {
            setText(event.target.value);
            onTyping(event.target.value !== "");
          }}
        />
      </div>
      <button className="primary" aria-label="Send" disabled={text.trim() === ""}><Icon name="send" /></button>
    </form>
  );
}
