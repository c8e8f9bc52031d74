// The page: a chat on the client in clients/js, and the protocol live beside it.
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app.tsx";
import "./style/base.css";
import "./style/layout.css";
import "./style/messages.css";
import "./style/frames.css";

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
