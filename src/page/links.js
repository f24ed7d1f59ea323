// Connections that come back: a plain WebSocket, and a Socket.IO namespace. Each shows its state on its dot.

import { status } from "./dom.js";
import { arrived } from "./events.js";
import { identity } from "./identity.js";

/** The longest pause between two attempts, milliseconds. */
const PAUSE = 15_000;

/** How long an acknowledgement may take, milliseconds. */
const ANSWER = 10_000;

/** The address of a WebSocket on this broker. */
export function webSocketAddress(path, parameters = {}) {
  const address = new URL(path, location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  for (const [name, value] of Object.entries(parameters)) address.searchParams.set(name, value);
  return address;
}

/** Twice as long after each failure, and not all at once. */
const pauseAfter = (failures) => Math.min(PAUSE, 500 * 2 ** failures) * (0.5 + Math.random() / 2);

/**
 * A WebSocket that comes back. `app`: whose it is, which also names the dot; `open()`: makes the WebSocket, or nothing if
 * there is none to be had; `name`: the member that holds an event's name; `opened()`, `heard(message)`.
 */
export class Link {
  #socket;
  #timer;
  #failures = 0;

  constructor({ app, open, name, opened, heard }) {
    Object.assign(this, { app, open, name, opened, heard, status: status(app) });
  }

  /** Connects, or connects anew. */
  start() {
    this.stop("not connected");
    this.#failures = 0;
    this.#connect();
  }

  /** Ends for good. */
  stop(text) {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close(1000);
    this.status("down", text);
  }

  get isUp() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  send(message) {
    if (!this.isUp) throw new Error("not connected: wait for the green dot");
    this.#socket.send(JSON.stringify(message));
  }

  #connect() {
    const socket = this.open();
    this.#socket = socket;
    this.status("wait", "connecting");
    const isOurs = () => this.#socket === socket;
    socket.addEventListener("open", () => {
      if (!isOurs()) return;
      this.#failures = 0;
      this.status("up", "connected");
      this.opened?.();
    });
    socket.addEventListener("message", ({ data }) => {
      if (!isOurs()) return;
      const message = JSON.parse(data);
      arrived(this.app, message[this.name], message);
      this.heard(message);
    });
    socket.addEventListener("close", ({ code, reason }) => {
      if (!isOurs()) return;
      this.#socket = undefined;
      const why = reason || (code === 1006 ? "refused or lost" : String(code));
      // Trying again makes it no better; a new token may.
      if (code === 1000 || code === 1008 || code >= 4000) return this.status("down", `closed: ${why}`);
      const wait = pauseAfter(this.#failures++);
      this.status("wait", `${why}, again in ${Math.ceil(wait / 1_000)} s`);
      this.#timer = setTimeout(() => this.#connect(), wait);
    });
  }
}

/** A Socket.IO namespace; `app`: whose it is, `dot`: its dot. All of the page's share one connection. */
export class Namespace {
  #timer;
  #failures = 0;

  constructor({ namespace, app, dot, opened }) {
    this.status = status(dot);
    const auth = (give) => give({ token: identity.token, recover: true });
    const socket = globalThis.io(namespace, { auth, autoConnect: false });
    this.socket = socket;
    socket.onAny((name, data) => arrived(app, name, data));
    socket.on("connect", () => {
      this.#failures = 0;
      this.#show();
      socket.io.engine.on("upgrade", () => this.#show());
      opened?.();
    });
    socket.on("disconnect", (reason) => {
      this.status(socket.active ? "wait" : "down", socket.active ? `${reason}, connecting again` : reason);
    });
    socket.on("connect_error", (error) => {
      // Without a connection the client tries again by itself; after a refusal it does not.
      if (socket.active) return this.status("wait", "no connection, trying again");
      if (error.message.startsWith("401")) return this.status("down", error.message);
      const wait = Math.max(error.data?.retry_after_ms ?? 0, pauseAfter(this.#failures++));
      this.status("wait", `${error.message}; again in ${Math.ceil(wait / 1_000)} s`);
      this.#timer = setTimeout(() => socket.connect(), wait);
    });
  }

  #show() {
    const { socket } = this;
    if (!socket.connected) return;
    const { name } = socket.io.engine.transport;
    this.status("up", `connected, ${name}${socket.recovered ? ", recovered" : ""}`);
  }

  /** Connects, or connects anew. */
  start() {
    clearTimeout(this.#timer);
    this.#failures = 0;
    this.socket.disconnect();
    this.status("wait", "connecting");
    this.socket.connect();
  }

  on(event, work) {
    this.socket.on(event, work);
  }

  /** Sends an event that is not answered. */
  tell(event, data) {
    if (this.socket.connected) this.socket.emit(event, data);
  }

  /** Sends an event and waits for its acknowledgement. */
  async ask(event, data = {}) {
    if (!this.socket.connected) throw new Error("not connected: wait for the green dot");
    const answer = await this.socket.timeout(ANSWER).emitWithAck(event, data);
    if (answer?.error) throw new Error(`${answer.error.code}: ${answer.error.message}`);
    return answer;
  }
}
