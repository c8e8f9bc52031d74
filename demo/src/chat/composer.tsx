// The message field. Enter sends, Shift+Enter starts a new line.
import { useImperativeHandle, useLayoutEffect, useRef, useState } from "react";
import type { KeyboardEvent, Ref } from "react";
import { Icon } from "../ui/icon.tsx";

export interface ComposerHandle {
  /** Puts text before what is written already, and the cursor at the end. */
  insert(text: string): void;
}

interface Props {
  ref: Ref<ComposerHandle>;
  /** The name of the room, or of the other person. */
  title: string;
  isOpen: boolean;
  onSend: (text: string) => void;
  onTyping: (typing: boolean) => void;
}

export function Composer({ ref, title, isOpen, onSend, onTyping }: Props) {
  const [text, setText] = useState("");
  const field = useRef<HTMLTextAreaElement>(null);

  useImperativeHandle(ref, () => ({
    insert: (before) => {
      setText((text) => before + text);
      field.current!.focus();
      // The cursor goes to the end of the field when its text is set.
    },
  }), []);
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
          dir="auto"
          value={text}
          placeholder={`Message ${title}`}
          aria-label={`Message to ${title}`}
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
