// The head of a room: its name and state, and the buttons of the panels.
import { Icon } from "../ui/icon.tsx";
import type { Panel } from "../workspace/use-route.ts";

interface Props {
  title: string;
  status: string;
  panel: Panel | undefined;
  onPanel: (panel: Panel) => void;
}

export function Header({ title, status, panel, onPanel }: Props) {
  return (
    <header>
      <button type="button" className="quiet only-narrow" aria-label="Rooms" onClick={() => onPanel("rooms")}><Icon name="menu" /></button>
      <div>
        <h1>{title}</h1>
        <p>{status}</p>
      </div>
      <button type="button" className="quiet" aria-pressed={panel === "people"} aria-label="People" title="Show the people of this room" onClick={() => onPanel("people")}>
        <Icon name="people" /> <span className="not-narrow">People</span>
      </button>
      <button type="button" className="quiet" aria-pressed={panel === "frames"} aria-label="Protocol" title="Show the protocol frames" onClick={() => onPanel("frames")}>
        <Icon name="frames" /> <span className="not-narrow">Protocol</span>
      </button>
    </header>
  );
}
