// The reference server with the rest of the app market and an ingest port: only to try the scenarios on.

import net from "node:net";
import { createInterface } from "node:readline";

import { events, now, refuse, start } from "./reference.mjs";

const newest = new Map();
const watchers = new Map();
const ids = new Set();

const PATTERNS = [
  /^chart:[A-Z]{2,10}$/,
  /^(trade|price|orderbook):[A-Z]{2,10}-[A-Z]{2,10}$/,
  /^(user|portfolio|orders):[a-zA-Z0-9-]{8,128}$/,
];
const TYPES = {
  price_updates: "price_update",
  trade_notifications: "trade_notification",
  portfolio_updates: "portfolio_update",
  order_updates: "order_update",
  system_alerts: "system_alert",
};
const isOwn = (type) => type === "portfolio_updates" || type === "order_updates";

function room(socket, name, data, ack) {
  const room = (data?.room ?? data?.roomId)?.replace(/^user-/, "user:");
  const code = (code) => (refuse(socket, name, ack, code), undefined);
  if (typeof room !== "string") return code("INVALID_MESSAGE");
  if (!PATTERNS.some((pattern) => pattern.test(room))) return code("ROOM_NOT_FOUND");
  const [prefix, id] = room.split(":");
  const personal = ["user", "portfolio", "orders"].includes(prefix);
  const { sub, rooms = [] } = socket.data.claims;
  if (personal && id !== sub && !rooms.includes(room)) return code("ACCESS_DENIED");
  return room;
}

function say(socket, event, data, ack) {
  socket.emit(event, data);
  ack?.(data);
}

function join(socket, room) {
  const fresh = !socket.rooms.has(room);
  socket.join(room);
  if (fresh && newest.has(room)) socket.emit(...newest.get(room));
}

const own = { price: "price", trades: "trade", orderbook: "orderbook", portfolio: "portfolio", orders: "orders" };
const shorthand = (prefix, field, confirmation) => (socket, data, ack) => {
  const id = field ? data[field] : socket.data.user.id;
  say(socket, confirmation, field ? { [field]: id } : { userId: id }, ack);
  join(socket, `${prefix}:${id}`);
};

Object.assign(events, {
  join_room(socket, data, ack) {
    const name = room(socket, "join_room", data, ack);
    if (!name) return;
    say(socket, "room_joined", { room: name }, ack);
    join(socket, name);
  },
  leave_room(socket, data, ack) {
    const name = room(socket, "leave_room", data, ack);
    if (!name) return;
    socket.leave(name);
    say(socket, "room_left", { room: name }, ack);
  },
  subscribe(socket, data, ack) {
    const types = data?.types;
    if (!Array.isArray(types) || !types.every((type) => Object.hasOwn(TYPES, type))) {
      return refuse(socket, "subscribe", ack, "INVALID_MESSAGE");
    }
    for (const type of types) socket.join(`type ${TYPES[type]}${isOwn(type) ? ` ${socket.data.user.id}` : ""}`);
    say(socket, "subscribed", { types }, ack);
  },
  subscribe_price: shorthand("price", "symbol", "price_subscribed"),
  subscribe_trades: shorthand("trade", "pair", "trades_subscribed"),
  subscribe_orderbook: shorthand("orderbook", "symbol", "orderbook_subscribed"),
  subscribe_portfolio: shorthand("portfolio", undefined, "portfolio_subscribed"),
  subscribe_orders: shorthand("orders", undefined, "orders_subscribed"),
  unsubscribe(socket, { type, identifier }, ack) {
    socket.leave(`${own[type]}:${identifier}`);
    say(socket, "unsubscribed", { type, identifier }, ack);
  },
  async room_message(socket, data, ack) {
    const name = room(socket, "room_message", data, ack);
    if (!name) return;
    if (!name.startsWith("user:")) return refuse(socket, "room_message", ack, "ACCESS_DENIED");
    const from = socket.data.user.id;
    socket.to(name).emit("room_message", { room: name, from, message: data.message, timestamp: now() });
    ack?.({});
  },
  async direct_message(socket, data, ack) {
    if (data?.message === undefined) return refuse(socket, "direct_message", ack, "INVALID_MESSAGE");
    const name = `user:${data.to}`;
    const delivered = (await io.in(name).fetchSockets()).length;
    socket.to(name).emit("direct_message", { from: socket.data.user.id, message: data.message, timestamp: now() });
    ack?.({ delivered });
  },
  async presence(socket, data, ack) {
    const online = async (id) => (await io.in(`user:${id}`).fetchSockets()).length > 0;
    const users = [];
    for (const userId of data.userIds) {
      users.push({ userId, online: await online(userId) });
      watchers.set(userId, (watchers.get(userId) ?? new Set()).add(socket));
    }
    say(socket, "presence", { users }, ack);
  },
  authenticate(socket, data, ack) {
    if (data.token === "nonsense") {
      socket.emit("auth_error", { error: "no", code: "AUTH_REQUIRED" });
      return ack?.({ error: { code: "AUTH_REQUIRED", message: "not a good token" } });
    }
    say(socket, "authenticated", { user: socket.data.user }, ack);
  },
});

const presence = (userId, online) => {
  for (const socket of watchers.get(userId) ?? []) {
    socket.emit("presence_update", { userId, online, timestamp: now() });
  }
};

const { http, io, port } = await start((socket) => {
  const { id } = socket.data.user;
  socket.join(`user:${id}`);
  presence(id, true);
  const rest = socket.data.claims.exp + 5 - Date.now() / 1000;
  if (rest < 10) setTimeout(() => socket.emit("token_expired", {}), rest * 1000);
  socket.on("disconnect", () => setTimeout(() => presence(id, false), 100));
});

const ingest = net.createServer((publisher) => {
  createInterface({ input: publisher }).on("line", async (line) => {
    const { id, room, user, broadcast, event, data, op } = JSON.parse(line);
    const answer = (value) => publisher.write(`${JSON.stringify(value)}\n`);
    if (op === "disconnect") {
      const sockets = await io.in(`user:${user}`).fetchSockets();
      io.in(`user:${user}`).disconnectSockets(true);
      return answer({ ok: true, connections: sockets.length });
    }
    const name = room ?? (user !== undefined ? `user:${user}` : undefined);
    let target = io.to(`type ${event}`).to(`type ${event} ${name?.split(":")[1]}`);
    if (broadcast && event !== "system_alert") target = io;
    if (name) target = target.to(name);
    if (/^(price|orderbook|portfolio):/.test(name)) newest.set(name, [event, data]);
    const subscribers = id ? (await target.fetchSockets()).length : 0;
    target.emit(event, data);
    if (id) answer({ id, ok: true, subscribers });
  });
  publisher.on("error", () => {});
});
await new Promise((done) => ingest.listen(0, "127.0.0.1", done));
process.on("SIGTERM", () => {
  http.close();
  http.closeAllConnections();
  io.engine.close();
  process.exit(0);
});
console.log(JSON.stringify({ port, ingest: ingest.address().port }));
