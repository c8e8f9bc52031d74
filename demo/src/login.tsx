// Who are you? A name where the server gives tokens by itself, which it does in development; a token elsewhere.
import { useEffect, useState } from "react";
import type { FormEvent } from "react";
import { byName, byToken, givesTokens, lastName } from "./session.ts";
import type { Identity } from "./session.ts";
import { Mark } from "./parts.tsx";

export function Login({ problem, onDone }: { problem: string | undefined; onDone: (identity: Identity) => void }) {
  const [byItself, setByItself] = useState<boolean>();
  const [refusal, setRefusal] = useState<string>();
  useEffect(() => {
    givesTokens().then(setByItself, () => setRefusal("The server does not answer. Reload this page when it is back."));
  }, []);

  const submit = async (event: FormEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault();
    const given = new FormData(event.currentTarget);
    setRefusal(undefined);
    try {
      onDone(byItself ? await byName(String(given.get("user")).trim()) : byToken(String(given.get("token")).trim()));
    } catch (error) {
      setRefusal(error instanceof TypeError ? "The server does not answer." : (error as Error).message);
    }
  };

  const trouble = refusal ?? problem;
  return (
    <main className="login">
      <form onSubmit={(event) => void submit(event)}>
        <Mark />
        <h1>Roomlog</h1>
        <p>A room is a log: what is sent is stored, and whoever was away gets what they missed.</p>
        {byItself === true && (
          <>
            <label>
              Your name
              <input name="user" required maxLength={64} defaultValue={lastName()} autoComplete="username" autoFocus spellCheck={false} />
            </label>
            <p className="hint">Open this page in a second window under another name. Then stop the server for a while, and write on.</p>
          </>
        )}
        {byItself === false && (
          <>
            <label>
              Token
              <textarea name="token" required rows={4} autoComplete="off" autoFocus spellCheck={false} />
            </label>
            <p className="hint">
              This server gives none by itself. <code>roomlog token --user NAME --room '*=read,write'</code> makes one. It is kept until
              this tab is closed.
            </p>
          </>
        )}
        {trouble !== undefined && <p className="trouble" role="alert">{trouble}</p>}
        {byItself !== undefined && <button className="primary">Enter</button>}
      </form>
    </main>
  );
}
