// The sign-in form. It asks for a name if the server issues tokens itself, as it does in development, and for a token otherwise.
import { useEffect, useState } from "react";
import type { FormEvent } from "react";
import { Logo } from "../ui/icon.tsx";
import { issuesTokens, lastName, signInWithName, signInWithToken } from "./session.ts";
import type { Identity } from "./session.ts";

export function Login({ problem, onDone }: { problem: string | undefined; onDone: (identity: Identity) => void }) {
  const [needsNameOnly, setNeedsNameOnly] = useState<boolean>();
  const [isOffline, setOffline] = useState(false);
  const [error, setError] = useState<string>();
  useEffect(() => {
    issuesTokens().then(setNeedsNameOnly, () => {
      if (lastName() === "") return setError("Can't reach the server. Reload this page to try again.");
      setOffline(true);
      setNeedsNameOnly(true);
    });
  }, []);

  const submit = async (event: FormEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault();
    const given = new FormData(event.currentTarget);
    setError(undefined);
    try {
      onDone(needsNameOnly ? await signInWithName(String(given.get("user")).trim()) : signInWithToken(String(given.get("token")).trim()));
    } catch (error) {
      setError(error instanceof TypeError ? "Can't reach the server." : (error as Error).message);
    }
  };

  const shownError = error ?? problem;
  return (
    <main className="login">
      <form onSubmit={(event) => void submit(event)}>
        <Logo />
        <h1>Roomlog</h1>
        <p>Every message is stored. Go offline, come back, and catch up on everything you missed.</p>
        {needsNameOnly === true && (
          <>
            <label>
              Name
              <input name="user" required maxLength={64} defaultValue={lastName()} autoComplete="username" autoFocus spellCheck={false} />
            </label>
            <p className="hint">
              {isOffline
                ? "You're offline. Sign in to read the messages that are stored in this browser. What you write is sent when you're back."
                : "To chat with yourself, open this page in a second window and sign in with another name."}
            </p>
          </>
        )}
        {needsNameOnly === false && (
          <>
            <label>
              Token
              <textarea name="token" required rows={4} autoComplete="off" autoFocus spellCheck={false} />
            </label>
            <p className="hint">
              Create one with <code>roomlog token --user NAME --room '*=read,write'</code>. It is kept until you close this tab.
            </p>
          </>
        )}
        {shownError !== undefined && <p className="error" role="alert">{shownError}</p>}
        {needsNameOnly !== undefined && <button className="primary">Sign in</button>}
      </form>
    </main>
  );
}
