// The whole page: the sign-in form, or the workspace of the signed-in user.
import { useEffect, useState } from "react";
import { flushSync } from "react-dom";
import { RoomlogProvider } from "@roomlog/client/react";
import { Login } from "./session/login.tsx";
import { recall, remember, start } from "./session/session.ts";
import type { Identity, Session } from "./session/session.ts";
import { sentence } from "./ui/sentence.ts";
import { Workspace } from "./workspace/workspace.tsx";

export function App() {
  const [session, setSession] = useState<Session | undefined>();
  const [identity, setIdentity] = useState<Identity | undefined>(recall);
  const [problem, setProblem] = useState<string>();

  useEffect(() => {
    if (!identity) return;
    remember(identity);
    const started = start(identity);
    started.client.on("error", (error) => {
      // The state of the connection shows temporary errors. Only a closed client needs a new sign-in.
      if (started.client.state !== "closed") return;
      setProblem(sentence(error.message));
      setIdentity(undefined);
    });
    setSession(started);
    return () => {
      started.client.close();
      setSession(undefined);
    };
  }, [identity]);

  if (!identity) {
    return <Login problem={problem} onDone={(identity) => (setProblem(undefined), setIdentity(identity))} />;
  }
  const signOut = (): void => {
    remember(undefined);
    // At once, since the rooms save what they show when they close. Without the storage of the browser, nothing was saved.
    flushSync(() => setIdentity(undefined));
    session?.forget().catch(() => {});
  };
  return session && <RoomlogProvider client={session.client}><Workspace session={session} onSignOut={signOut} /></RoomlogProvider>;
}
