// The reference server, socket.io, with as much of the app market as the transcripts need: the welcome, `ping`, errors.
// Settings come from the environment variable SETTINGS, JSON in the reference server's own words. Prints
// `{"port":…}` when it listens, and ends when its standard input does.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";

const { Server } = createRequire(path.join(process.env.MODULES, "scripts.js"))("socket.io");

/** The claims of a good token; otherwise the code that says what is wrong. */
function claims(token) {
  if (typeof token !== "string") return "AUTH_REQUIRED";
  const [head, body, signature = ""] = token.split(".");
  const right = createHmac("sha256", process.env.SECRET).update(`${head}.${body}`).digest("base64url");
  const same = signature.length === right.length && timingSafeEqual(Buffer.from(signature), Buffer.from(right));
  if (!same) return "AUTH_REQUIRED";
  const found = JSON.parse(Buffer.from(body, "base64url"));
  return found.exp + 5 < Date.now() / 1000 ? "TOKEN_EXPIRED" : found;
}

const now = () => new Date().toISOString();

/** The claims of a token, or the error that a CONNECT is refused with. */
function authenticate(socket, next) {
  const found = claims(socket.handshake.auth.token);
  if (typeof found === "string") {
    const error = new Error("401 connect with a valid token");
    error.data = { code: found };
    return next(error);
  }
  const { sub: id, username, roles } = found;
  socket.data = { user: { id, ...(username && { username }), ...(roles && { roles }) } };
  next();
}

/** `event` with an error, and the same to the ack. */
function refuse(socket, event, ack, code) {
  const message = "the reference server says no";
  socket.emit("error", { code, message, event });
  ack?.({ error: { code, message, event } });
}

const events = {
  ping(socket, data, ack) {
    const pong = { timestamp: data?.timestamp ?? now(), serverTime: now() };
    socket.emit("pong", pong);
    ack?.(pong);
  },
};

const http = createServer();
const io = new Server(http, { serveClient: false, ...JSON.parse(process.env.SETTINGS ?? "{}") });
io.use(authenticate);
io.on("connection", (socket) => {
  socket.onAny((name, ...args) => {
    const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
    // An event without a name is no event.
    if (Object.hasOwn(events, name)) events[name](socket, args[0], ack);
    else if (name !== undefined) refuse(socket, String(name), ack, "INVALID_MESSAGE");
  });
  socket.emit("connected", { connectionId: socket.id, timestamp: now(), serverVersion: "reference" });
  socket.emit("authenticated", { user: socket.data.user });
});
await new Promise((done) => http.listen(0, "127.0.0.1", done));
process.stdin.on("end", () => process.exit(0)).resume();
console.log(JSON.stringify({ port: http.address().port }));
