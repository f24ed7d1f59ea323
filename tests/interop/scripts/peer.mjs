// One client of an exchange, at the level of HTTP requests and WebSocket frames, that writes down what it is answered.
// What differs from run to run (ids, times) is replaced by a name, so that transcripts of two servers can be compared.

import http from "node:http";

import { require, token, until } from "./harness.mjs";

const { WebSocket } = require("ws");

/** The headers that clients heed; the last only in answers to GET, since no other is kept. */
const HEADERS = ["content-type", "content-encoding", "set-cookie", "cache-control"];

/** Those that browsers heed, where the request names its origin. */
const CROSS_ORIGIN = [
  "vary",
  "access-control-allow-origin",
  "access-control-allow-credentials",
  "access-control-allow-methods",
];

/** What stands in the header, in one way of writing; of lists, only what clients need is compared. */
function value(header, text) {
  const plain = text.toLowerCase().replaceAll(" ", "");
  const needed = { vary: ["origin"], "access-control-allow-methods": ["get", "post"] }[header];
  return needed ? plain.split(",").filter((item) => needed.includes(item)).join(",") : plain;
}

/** How a WebSocket ended: the reference server names no code where fanfare does, and clients do not tell them apart. */
function ending(code) {
  if (code === 1006) return { ended: "without a close frame" };
  return { ended: code === 1009 ? code : "with a close frame" };
}

const pause = () => new Promise((done) => setTimeout(done, 2));

const SEPARATOR = "\u001e";

/** How long an answer is waited for that may not come, ms. */
const PATIENCE = 5_000;

export class Peer {
  constructor(port) {
    this.port = port;
    /** What was answered, in order. */
    this.transcript = [];
    /** Ids by their masks. */
    this.ids = new Map();
    this.sockets = [];
    /** A token that the server takes. */
    this.token = token("peer-0001");
    this.asked = 0;
  }

  /** The CONNECT packet of the namespace `/`. */
  get connect() {
    return `40${JSON.stringify({ token: this.token })}`;
  }

  note(what, answer) {
    this.transcript.push({ [this.mask(what)]: answer });
  }

  mask(text) {
    for (const [, id] of text.matchAll(/"[sp]id":"([^"]+)"/g)) {
      if (!this.ids.has(id)) this.ids.set(id, `ID${this.ids.size + 1}`);
    }
    let masked = text;
    for (const [id, name] of this.ids) masked = masked.replaceAll(id, name);
    return masked
      .replaceAll(this.token, "TOKEN")
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
      .replace(/"serverVersion":"[^"]*"/, '"serverVersion":"VERSION"')
      .replace(/("message":"401)[^"]*/, "$1 …")
      .replace(/^(4[23]\d*\["error",\{"code":"[A-Z_]+","message":")[^"]*/, "$1…")
      .replace(/^(43\d*\[\{"error":\{"code":"[A-Z_]+","message":")[^"]*/, "$1…");
  }

  /** Starts a request; `answer` notes what came and returns it. */
  request(method, query, { body, headers = {}, path = "/socket.io/", name, unfinished = false } = {}) {
    const what = name ?? `${method} ${query}`;
    const options = { host: "127.0.0.1", port: this.port, method, path: path + query, agent: false, headers };
    const done = new Promise((resolve) => {
      const request = http.request(options, (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () => resolve({ response, body: Buffer.concat(chunks).toString() }));
        response.on("error", () => resolve({ cut: "in the answer" }));
      });
      request.on("error", () => resolve({ cut: "no answer" }));
      request.setTimeout(PATIENCE, () => resolve({ cut: `nothing for ${PATIENCE} ms` }));
      if (unfinished) request.write(body);
      else request.end(body);
    });
    return {
      /** Waits, notes, and returns the body. */
      answer: async () => {
        const { response, body, cut } = await done;
        if (cut) {
          this.note(what, { cut });
          return "";
        }
        const compared = HEADERS.slice(0, method === "GET" ? undefined : -1);
        if ("Origin" in headers) compared.push(...CROSS_ORIGIN);
        if ("Access-Control-Request-Headers" in headers) compared.push("access-control-allow-headers");
        const found = compared
          .filter((header) => header in response.headers)
          .map((header) => [header, value(header, String(response.headers[header]))]);
        const packets = body.split(SEPARATOR).map((packet) => this.mask(packet));
        this.note(what, { status: response.statusCode, headers: Object.fromEntries(found), packets });
        return body;
      },
      /** Waits, and returns the body, or what there is instead of a good answer. */
      outcome: async () => {
        const { response, body, cut } = await done;
        if (cut) return { cut };
        return response.statusCode === 200 ? { body } : { status: response.statusCode, refusal: body };
      },
    };
  }

  get(query, options) {
    return this.request("GET", query, options).answer();
  }

  post(body, options = {}) {
    const headers = { "Content-Type": "text/plain;charset=UTF-8", ...options.headers };
    return this.request("POST", this.session, { name: `POST ${this.mask(body).slice(0, 80)}`, ...options, body, headers }).answer();
  }

  /** Opens a session by polling; with `connect`, connects it to the namespace `/` and takes the welcome. */
  async open({ connect = false } = {}) {
    const body = await this.get("?EIO=4&transport=polling");
    this.sid = JSON.parse(body.slice(1)).sid;
    this.session = `?EIO=4&transport=polling&sid=${this.sid}`;
    if (connect) await this.join();
  }

  /** Starts a poll. */
  poll(name = "poll") {
    return this.request("GET", this.session, { name });
  }

  /** Opens a WebSocket, for a session of its own or for that of the polls. */
  async socket(query, options = {}) {
    const url = `ws://127.0.0.1:${this.port}/socket.io/${query ?? `?EIO=4&transport=websocket&sid=${this.sid}`}`;
    const socket = new WebSocket(url, { perMessageDeflate: false, ...options });
    const came = [];
    socket.on("message", (data, isBinary) => came.push(isBinary ? `binary ${data.toString("hex")}` : data.toString()));
    let end;
    socket.on("close", (code) => (end ??= ending(code)));
    socket.on("error", () => {});
    socket.on("unexpected-response", (_, response) => {
      let body = "";
      response.on("data", (chunk) => (body += chunk));
      response.on("end", () => {
        // The message alone, or in JSON as for polling.
        end = { status: response.statusCode, message: body.startsWith("{") ? JSON.parse(body).message : body };
      });
    });
    this.sockets.push(socket);
    await until("the WebSocket", () => socket.readyState === WebSocket.OPEN || end);
    if (end && !end.ended) this.note("WebSocket", { refused: end });
    /** Waits until it is enough, notes what came until then, and the end if there is one. */
    const collect = async (enough, what, ignored) => {
      const messages = [];
      const silent = Date.now() + PATIENCE;
      while (!messages.some(enough) && (came.length || !end) && Date.now() < silent) {
        if (came.length) messages.push(came.shift());
        else await pause();
      }
      const masked = messages.filter((message) => message !== ignored).map((message) => this.mask(message));
      const missing = !messages.some(enough) && !end;
      this.note(what, { messages: masked, ...end, ...(missing && { missing: `nothing for ${PATIENCE} ms` }) });
      return messages;
    };
    let asked = 0;
    return {
      send: (data) => socket.send(data),
      close: () => socket.close(),
      /** Waits until what was sent has reached the server. */
      settle: async () => {
        let ponged = false;
        socket.once("pong", () => (ponged = true));
        socket.ping();
        await until("a pong", () => ponged || end);
      },
      /** Notes the next `count` messages. */
      receive: (count) => collect((_, at) => at + 1 === count, "messages"),
      /** Notes all until the answer to an event sent now, or the end. */
      reaction: () => {
        const mark = 90 + asked++;
        if (!end) socket.send(`42${mark}["ping",{"timestamp":1}]`);
        return collect((message) => message.startsWith(`43${mark}`), "reaction");
      },
      /** Notes all until the end, but messages that are just this. */
      end: (ignored) => collect(() => false, "end", ignored),
      /** Connects to the namespace `/`, and notes all until the welcome is whole, or the end. */
      connect: () => {
        if (!end) socket.send(this.connect);
        return collect((message) => message.startsWith('42["authenticated"'), "connect");
      },
    };
  }

  /** A WebSocket with a session of its own; with `connect`, connected to the namespace `/`. */
  async direct({ connect = false, ...options } = {}) {
    const socket = await this.socket("?EIO=4&transport=websocket", options);
    await socket.receive(1);
    if (connect) await socket.connect();
    return socket;
  }

  /** Starts a post whose body is not complete; its answer is noted when it comes. */
  slowPost(missing) {
    const headers = { "Content-Type": "text/plain;charset=UTF-8", "Content-Length": missing };
    return this.request("POST", this.session, { name: "the slow post", headers, body: "4", unfinished: true });
  }

  /** Waits until requests sent before have reached the server: one after them is answered. */
  async settle() {
    for (let n = 0; n < 5; n++) await this.request("GET", "?EIO=4&transport=settle", {}).outcome();
  }

  /** Polls until a packet matches, and notes all, and the answer that is none. */
  async collect(matches, what) {
    const packets = [];
    let answer;
    while (!packets.some(matches) && !answer) {
      const { body, ...refusal } = await this.poll().outcome();
      if (body === undefined) answer = refusal;
      else packets.push(...body.split(SEPARATOR));
    }
    this.note(what, { packets: packets.map((packet) => this.mask(packet)), ...answer });
  }

  /** Posts an event, and notes all until its answer, or the end of the session. */
  async reaction() {
    const mark = 90 + this.asked++;
    await this.post(`42${mark}["ping",{"timestamp":1}]`);
    await this.collect((packet) => packet.startsWith(`43${mark}`), "reaction");
  }

  /** Connects to the namespace `/`, and takes the welcome. */
  async join() {
    await this.post(this.connect);
    await this.collect((packet) => packet.startsWith('42["authenticated"'), "connect");
  }

  /** Polls until the session is over, answering pings, and notes the other packets and the last answer. */
  async end() {
    const packets = [];
    for (;;) {
      const { body, ...refusal } = await this.poll().outcome();
      if (body === undefined) return this.note("end", { packets, ...refusal });
      // Whether a noop comes before the close depends on whether the poll came before it.
      packets.push(...body.split(SEPARATOR).filter((packet) => packet !== "2" && packet !== "6"));
      if (body.split(SEPARATOR).includes("2")) await this.request("POST", this.session, { body: "3" }).outcome();
    }
  }

  close() {
    for (const socket of this.sockets) socket.terminate();
  }
}
