// What the scripts share: the socket.io client under test, waiting for conditions, tokens, publishing, and one line of
// JSON on standard output for each scenario. It knows nothing of the test program that starts it but its environment:
//
//   MODULES       the folder whose node_modules holds the packages
//   CLIENT        the package of the client under test; it may be missing where none is used
//   TRANSPORTS    the client's, separated by commas
//   HOST, PORT, INGEST_PORT   where clients connect, where backends publish
//   SECRET        signs tokens

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createRequire } from "node:module";
import net from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";

const { MODULES, CLIENT = "socket.io-client", HOST = "127.0.0.1", PORT, INGEST_PORT, SECRET } = process.env;

/** Packages come from the installed folder, not from beside this file. */
export const require = createRequire(path.join(MODULES, "scripts.js"));
const { io } = require(CLIENT);

export const address = { host: HOST, port: Number(PORT) };

/** How long anything that must come is waited for, ms. Only a failing scenario waits so long. */
const DEADLINE = 30_000;

/** How long a scenario may take in all, ms. */
const SCENARIO = 120_000;

/** After so many failures the rest is not worth the waiting. */
const GIVE_UP = 3;

/** How long clients may take to say goodbye, ms. */
const GOODBYE = 2_000;

const pause = () => new Promise((done) => setTimeout(done, 5));

/** Waits until `condition` gives something; `what` says what did not come. */
export async function until(what, condition) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const value = condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`never happened: ${typeof what === "function" ? what() : what}`);
    await pause();
  }
}

const base64url = (value) => Buffer.from(value).toString("base64url");

/** A token of one hour, or with other claims. */
export function token(user, claims = {}) {
  const now = Math.floor(Date.now() / 1000);
  const head = base64url(JSON.stringify({ alg: "HS256", typ: "JWT" }));
  const body = base64url(JSON.stringify({ sub: user, exp: now + 3600, ...claims }));
  const signature = createHmac("sha256", SECRET).update(`${head}.${body}`).digest("base64url");
  return `${head}.${body}.${signature}`;
}

/** A socket of the client under test, with all that it was told, in order. */
export class Client {
  /** `user` may be null: then no token is sent. Options are those of `io`; `auth` adds to the token. */
  constructor(user, { namespace = "", at = address, claims, auth, ...options } = {}) {
    this.user = user;
    /** Events that were not taken yet: `{name, args}`. */
    this.events = [];
    /** `["connect"]`, `["connect_error", message, data]`, `["disconnect", reason]`. */
    this.states = [];
    this.socket = io(`http://${at.host}:${at.port}${namespace}`, {
      forceNew: true,
      reconnection: false,
      transports: process.env.TRANSPORTS.split(","),
      auth: { ...(user === null ? {} : { token: token(user, claims) }), ...auth },
      ...options,
    });
    open.add(this);
    /** The transport that the connection began with. */
    this.opened = undefined;
    this.socket.io.on("open", () => (this.opened = this.transport));
    this.socket.onAny((name, ...args) => this.events.push({ name, args }));
    this.socket.on("connect", () => this.states.push(["connect"]));
    this.socket.on("disconnect", (reason) => this.states.push(["disconnect", reason]));
    this.socket.on("connect_error", (error) => this.states.push(["connect_error", error.message, error.data]));
  }

  get engine() {
    return this.socket.io.engine;
  }

  get transport() {
    return this.engine.transport.name;
  }

  /** Waits for a state of that kind after the first `after` ones. */
  state(kind, after = 0) {
    const describe = () => `${kind} of ${this.user}; only ${JSON.stringify(this.states)}`;
    return until(describe, () => this.states.slice(after).find(([name]) => name === kind));
  }

  /** Connects as `user`, and takes the welcome. */
  async welcome() {
    await this.state("connect");
    await this.event("connected");
    await this.event("authenticated");
    return this;
  }

  /** Takes the next event, which must have this name, and returns its argument. */
  async event(name) {
    const event = await until(
      () => `event ${name} for ${this.user}; states ${JSON.stringify(this.states)}`,
      () => this.events.shift(),
    );
    assert.equal(event.name, name, JSON.stringify(event));
    assert.ok(event.args.length <= 1, `one argument: ${JSON.stringify(event)}`);
    return event.args[0];
  }

  /** Emits, and waits for the acknowledgement. */
  async ask(name, ...data) {
    let answer;
    this.socket.emit(name, ...data, (...args) => (answer = args));
    await until(
      () => `ack of ${name} for ${this.user}; states ${JSON.stringify(this.states)}`,
      () => answer,
    );
    assert.equal(answer.length, 1, `an ack has one argument: ${JSON.stringify(answer)}`);
    return answer[0];
  }

  /** Emits, waits for the acknowledgement and for the event of that name, which say the same. */
  async confirmed(name, data, confirmation) {
    const ack = await this.ask(name, data);
    assert.deepEqual(await this.event(confirmation), ack);
    return ack;
  }

  /** Asserts that no event has come that was not taken, proved by the answer to a ping sent now. */
  async nothing() {
    await this.confirmed("ping", {}, "pong");
    assert.deepEqual(this.events, []);
  }

  /** Waits until the connection below is over: client 3 ends a new one with it. */
  async ended() {
    const { engine } = this;
    await until("the end of the connection", () => engine.readyState === "closed");
  }

  close() {
    this.socket.disconnect();
    open.delete(this);
  }
}

/** Clients that the scenario under way has opened. */
const open = new Set();

/** A connection to the ingest port. */
export class Publisher {
  static async connect() {
    const publisher = new Publisher();
    publisher.socket = net.connect({ host: HOST, port: Number(INGEST_PORT), noDelay: true });
    publisher.waiting = [];
    publisher.number = 0;
    const lines = createInterface({ input: publisher.socket });
    lines.on("error", () => {});
    lines.on("line", (line) => {
      publisher.waiting.shift()?.(JSON.parse(line));
    });
    publisher.socket.on("error", (error) => publisher.socket.destroy(error));
    await new Promise((done) => publisher.socket.once("connect", done));
    return publisher;
  }

  /** Sends a line that is not answered. */
  send(line) {
    this.socket.write(`${JSON.stringify(line)}\n`);
  }

  /** Sends a line and waits for its answer. */
  async ask(line) {
    let answer;
    this.waiting.push((value) => (answer = value));
    this.send(line);
    return until(
      () => `answer to ${JSON.stringify(line)}`,
      () => answer,
    );
  }

  /** Publishes, and returns to how many; then every subscriber has it on the way. */
  async publish(line) {
    const answer = await this.ask({ id: `interop-${process.pid}-${publishIds++}`, ...line });
    assert.equal(answer.ok, true, JSON.stringify(answer));
    return answer.subscribers;
  }

  /** Numbered events to `room`, `rate` a second, until `stop()`, which returns the number of the last one. */
  stream(room, rate) {
    const started = performance.now();
    let sent = 0;
    const timer = setInterval(() => {
      const due = Math.floor(((performance.now() - started) / 1000) * rate);
      let lines = "";
      while (sent < due) lines += `${JSON.stringify({ room, event: "tick", data: { n: (sent += 1) } })}\n`;
      if (lines) this.socket.write(lines);
    }, 2);
    return {
      get sent() {
        return sent;
      },
      stop() {
        clearInterval(timer);
        return sent;
      },
    };
  }

  close() {
    this.socket.destroy();
  }
}

let publishIds = 0;

/** Names that no other scenario uses, nor another script on the same broker: its process id is in them. */
let names = 0;
const letter = (n) => String.fromCharCode(65 + (Math.floor(n) % 26));
export const letters = (prefix) => {
  const [number, id] = [names++, process.pid];
  return [prefix, id / 17_576, id / 676, id / 26, id, number / 26, number]
    .map((part) => (typeof part === "number" ? letter(part) : part))
    .join("");
};
export const user = (name) => `${name}-${process.pid}-${String(names++).padStart(4, "0")}`;

/** Prints one line for the test program. */
export function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Waits for a line from the test program. */
export async function input(expected) {
  const line = await until(`the line ${expected} on standard input`, () => lines.shift());
  assert.equal(line, expected);
}
const lines = [];

/**
 * Runs the scenarios, an object of functions by name, one after the other: all, or those named in ONLY. Prints
 * `{scenario, ok, error?, …what it returned}` for each, at last `{done}` with their number, and ends the process.
 */
export async function run(scenarios) {
  createInterface({ input: process.stdin }).on("line", (line) => lines.push(line));
  const chosen = process.env.ONLY?.split(",") ?? Object.keys(scenarios);
  let failures = 0;
  for (const scenario of chosen) {
    const body = scenarios[scenario];
    if (failures === GIVE_UP) {
      print({ scenario, ok: false, error: "not tried after other failures" });
      continue;
    }
    const limit = new Promise((_, fail) => {
      setTimeout(() => fail(new Error(`not done after ${SCENARIO} ms`)), SCENARIO).unref();
    });
    try {
      print({ scenario, ok: true, ...(await Promise.race([body(), limit])) });
    } catch (error) {
      failures += 1;
      print({ scenario, ok: false, error: error.stack });
    }
    const engines = [...open].map((client) => (client.close(), client.engine));
    // So that the server hears of it. One that was cut off may never be done.
    const end = Date.now() + GOODBYE;
    while (engines.some((engine) => engine.readyState !== "closed") && Date.now() < end) await pause();
  }
  process.stdout.write(`${JSON.stringify({ done: chosen.length })}\n`, () => process.exit(0));
}

process.on("unhandledRejection", (error) => {
  console.error(error);
  process.exit(1);
});
