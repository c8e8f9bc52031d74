// One room over WebSocket: joining, following it through reconnects, and sending with keys. Text stays text: whatever
// comes from others is put into the page by textContent only.

const $ = (id) => document.getElementById(id);
const HISTORY = 50; // messages that are shown when joining
const SHOWN = 1000; // messages that are kept in the page
const FRAMES = 200; // frames that are kept in the drawer
const PAUSE = [500, 20_000]; // ms before connecting again, doubling from the first to the longest
const SILENCE = 40_000; // ms without an answer after which a connection is dead

/** The room that was joined, or null. */
let joined = null;

class Room {
  constructor(user, room, token, isGiven) {
    Object.assign(this, { user, room, token, isGiven });
    this.key = `roomlog ${user} ${room}`; // where the last id that was seen is kept
    this.seen = localStorage.getItem(this.key);
    this.position = null; // everything up to this id was shown
    this.pending = new Map(); // what was sent and is not in the log yet, by key
    this.requests = new Map(); // what waits for an answer, by ref
    this.ref = 0;
    this.failures = 0;
  }

  async connect() {
    this.goodbye = null;
    show("away", this.position ? "connecting again…" : "connecting…");
    // A server that was started again for development has another secret, and takes no token of the one before.
    if (this.isGiven) {
      try {
        this.token = await devToken(this.user);
      } catch {
        return this.lost();
      }
    }
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/v1/ws`, "roomlog.v1.json");
    this.socket = socket;
    this.requests.clear();
    socket.onopen = () => {
      this.ask({ op: "connect", token: this.token }, () => this.subscribe(), ({ message }) => this.refuse(message));
    };
    socket.onmessage = ({ data }) => {
      this.heard = Date.now();
      for (const frame of [JSON.parse(data)].flat()) this.take(frame);
    };
    socket.onclose = ({ code }) => this.socket === socket && this.lost(code);
  }

  subscribe() {
    [this.missed, this.older] = [0, ""];
    this.left = this.seen; // what comes behind this was missed
    this.isShort = !this.position; // then what was missed may be more than is asked for
    $("log").setAttribute("aria-busy", "true");
    const start = this.position ? { since: this.position } : { last: HISTORY };
    this.ask({ op: "subscribe", room: this.room, ...start }, (answer) => {
      this.position ??= answer.position;
      this.failures = 0;
      for (const message of this.pending.values()) this.publish(message);
    }, ({ message }) => this.refuse(message));
  }

  take(frame) {
    record("in", frame);
    switch (frame.op) {
      case "ok": case "error": return this.answer(frame);
      case "message": return this.message(frame);
      case "live": return this.live();
      case "gap": return this.gap(frame);
      case "unsubscribed": return this.refuse(frame.message);
      case "goodbye": this.goodbye = frame;
    }
  }

  ask(frame, done, failed) {
    frame = { ...frame, ref: ++this.ref };
    this.requests.set(frame.ref, { done, failed });
    this.socket.send(JSON.stringify(frame));
    record("out", frame);
  }

  answer(frame) {
    const request = this.requests.get(frame.ref);
    this.requests.delete(frame.ref);
    if (frame.op === "ok") request?.done?.(frame);
    else request?.failed?.(frame);
  }

  message(frame) {
    if (this.position && order(frame.id, this.position) <= 0) return;
    if (!this.isLive && this.left && order(frame.id, this.left) > 0 && frame.from !== this.user) {
      if (!this.missed++) append(this.mark = element("li", "mark"));
      const older = this.isShort && this.missed === 1 ? seq(frame.id) - seq(this.left) - 1n : 0n;
      if (older > 0n) this.older = `, after ${older} that are not shown`;
      this.mark.textContent = `${this.missed} missed while you were away${this.older}`;
    }
    this.see(frame.id);
    const mine = this.pending.get(frame.key);
    mine?.item.remove();
    this.pending.delete(frame.key);
    const when = new Date(Number(frame.id.split("-")[0]));
    const item = render(frame, frame.from === this.user, clock(when) + (mine ? " · sent" : ""));
    item.title = `${frame.id}, ${when.toLocaleString()}`;
    append(item);
  }

  see(id, rewound) {
    this.position = id;
    if (!rewound && this.seen && order(id, this.seen) <= 0) return;
    this.seen = id;
    localStorage.setItem(this.key, id);
  }

  live() {
    this.isLive = true;
    $("log").setAttribute("aria-busy", "false");
    show("on", "live");
  }

  gap({ after, next, reason }) {
    const why = reason === "rewound" ? "Redis came back without them" : "too old, or deleted";
    append(element("li", "gap", `Messages between ${after} and ${next} are missing: ${why}.`));
    this.see(`${next.split("-")[0]}-${seq(next) - 1n}`, reason === "rewound");
  }

  send(text) {
    const message = { key: uuid(), data: { text } };
    message.item = render({ from: this.user, data: message.data }, true, "sending…");
    message.item.classList.add("waiting");
    $("log").append(message.item);
    scroll();
    this.pending.set(message.key, message);
    if (this.isLive) this.publish(message);
  }

  /** The same key again stores nothing new, so whatever was not confirmed is simply sent again. */
  publish(message) {
    const { key, data, item } = message;
    const when = item.querySelector(".when");
    when.textContent = "sending…";
    this.ask({ op: "publish", room: this.room, key, data }, () => {
      when.textContent = "sent";
      item.classList.remove("waiting");
    }, ({ code, message: words, retry_after_ms: wait }) => {
      const again = { unavailable: "Redis is away", rate_limited: "too fast" }[code];
      when.textContent = again ? `sending… (${again})` : `not sent: ${words}`;
      if (again) return setTimeout(() => this.isLive && this.pending.has(key) && this.publish(message), wait ?? 1000);
      item.classList.replace("waiting", "failed");
      this.pending.delete(key);
    });
  }

  lost(code) {
    this.isLive = false;
    if (this.ended) return;
    if (code >= 4500) return this.refuse(this.goodbye?.message ?? `the server closed the connection (${code})`);
    const longest = Math.min(PAUSE[0] * 2 ** this.failures++, PAUSE[1]);
    const pause = this.goodbye?.retry_after_ms ?? longest * (0.5 + Math.random() / 2);
    show("away", `${this.goodbye?.message ?? "connection lost"}; again in ${Math.max(1, Math.round(pause / 1000))} s`);
    for (const { item } of this.pending.values()) item.querySelector(".when").textContent = "waiting for the connection…";
    setTimeout(() => this.connect(), pause);
  }

  /** What connecting again does not mend: back to the form, with the reason. */
  refuse(why) {
    this.ended = true;
    this.socket.close();
    joined = null;
    show("bad", "not connected");
    $("problem").textContent = why;
    $("token-field").hidden = this.isGiven;
    $("room").hidden = $("where").hidden = true;
    $("join").hidden = false;
  }
}

const seq = (id) => BigInt(id.split("-")[1]);

/** Below zero if id `a` is before id `b`. */
function order(a, b) {
  const [[ams, aseq], [bms, bseq]] = [a, b].map((id) => id.split("-").map(BigInt));
  return Number(ams === bms ? aseq - bseq : ams - bms);
}

function element(name, kind, text = "") {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

function render({ from, type, data }, mine, when) {
  const item = element("li", mine ? "message mine" : "message");
  const who = element("span", "from", from);
  if (type && type !== "message") who.append(element("span", "kind", type));
  const text = typeof data === "string" ? data : data?.text;
  const plain = typeof text === "string" && (text === data || Object.keys(data).length === 1);
  const body = element("span", plain ? "text" : "text data", plain ? text : JSON.stringify(data));
  item.append(who, element("span", "when", when), body);
  return item;
}

/** Into the log, before what is not stored yet. */
function append(item) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  log.insertBefore(item, log.querySelector(":scope > .waiting"));
  while (log.children.length > SHOWN) log.firstChild.remove();
  if (atEnd) scroll();
}

function scroll() {
  $("log").scrollTop = $("log").scrollHeight;
}

function show(state, words) {
  $("state").dataset.state = state;
  $("state").textContent = words;
}

function clock(time) {
  return time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

/** A frame for the drawer, without the token. */
function record(direction, frame) {
  const frames = $("frames");
  const shown = JSON.stringify(frame.token ? { ...frame, token: "…" } : frame);
  const atEnd = frames.scrollHeight - frames.scrollTop - frames.clientHeight < 40;
  frames.append(element("li", direction, `${direction === "in" ? "←" : "→"} ${shown.slice(0, 2000)}`));
  while (frames.children.length > FRAMES) frames.firstChild.remove();
  $("count").textContent = Number($("count").textContent) + 1;
  if (atEnd) frames.scrollTop = frames.scrollHeight;
}

/** crypto.randomUUID is there for https and localhost only. */
function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** A token for development; null where the server gives none. */
async function devToken(user) {
  const answer = await fetch(`/dev/token?user=${encodeURIComponent(user)}`);
  if (answer.status === 404 || answer.status === 403) return null;
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body.token;
}

$("join").onsubmit = async (event) => {
  event.preventDefault();
  const { user, room, token } = Object.fromEntries(new FormData(event.target));
  $("problem").textContent = "";
  try {
    const given = token || (await devToken(user));
    if (!given) {
      $("token-field").hidden = false;
      return event.target.token.focus();
    }
    localStorage.setItem("roomlog user", user);
    joined = new Room(user, room, given, !token);
  } catch (error) {
    const unreachable = error instanceof TypeError;
    return void ($("problem").textContent = unreachable ? "The server does not answer." : error.message);
  }
  $("log").replaceChildren();
  $("where").textContent = `${room}, as ${user}`;
  $("join").hidden = true;
  $("room").hidden = $("where").hidden = false;
  $("text").focus();
  joined.connect();
};

$("send").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (text.trim()) joined?.send(text);
  $("text").value = "";
};

// The server's pings are not shown to pages, so a silent connection is asked; one that does not answer is dead.
setInterval(() => {
  if (!joined?.isLive) return;
  if (Date.now() - joined.heard > SILENCE) joined.socket.close();
  else joined.ask({ op: "ping" });
}, SILENCE / 3);

$("drawer").ontoggle = () => {
  scroll();
  $("frames").scrollTop = $("frames").scrollHeight;
};

$("join").user.value = localStorage.getItem("roomlog user") ?? "";
