// The entry point of the page: a chat on the client in clients/js, which also shows the protocol frames.
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app.tsx";
import { registerWorker } from "./register-worker.ts";
import "./style/base.css";
import "./style/layout.css";
import "./style/messages.css";
import "./style/rooms.css";
import "./style/frames.css";

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);

// Vite's own server, for development, builds no service worker.
if (import.meta.env.PROD) registerWorker();
