// One's own messages that were not sent: cancelled ones stay in the log, where they can be sent after all or discarded.
import { useCallback, useState } from "react";
import type { UseRoom } from "@roomlog/client/react";
import type { StateActions } from "./message-state.tsx";
import type { Shown } from "./timeline.ts";

/** Returns the cancelled messages, and what can be done about those that were not sent. */
export function useUnsent({ publish, dismiss }: Pick<UseRoom<unknown>, "publish" | "dismiss">): [Shown[], StateActions] {
  const [cancelled, setCancelled] = useState<Shown[]>([]);
  const onDiscard = useCallback((message: Shown) => {
    setCancelled((all) => all.filter(({ key }) => key !== message.key));
    dismiss(message.key);
  }, [dismiss]);
  const onRetry = useCallback((message: Shown) => {
    onDiscard(message);
    publish(message.data, { type: message.type, key: message.key });
  }, [onDiscard, publish]);
  const onCancel = useCallback((message: Shown) => {
    if (message.cancel?.()) setCancelled((all) => [...all, { ...message, state: "cancelled" }]);
  }, []);
  return [cancelled, { onDiscard, onRetry, onCancel }];
}
