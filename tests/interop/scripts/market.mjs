// The app market as a socket.io client sees it: connecting, rooms, event types, messages, presence, refusals.

import assert from "node:assert/strict";

import { Client, Publisher, letters, run, token, until, user } from "./harness.mjs";

const publisher = await Publisher.connect();
const transports = process.env.TRANSPORTS.split(",");

const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** Asserts that an acknowledgement is a refusal; an event `error` may say the same. */
async function refused(client, name, data, code) {
  const ack = await client.ask(name, data);
  assert.equal(ack.error?.code, code, JSON.stringify(ack));
  assert.ok(ack.error.message.length > 5);
  await client.ask("ping", {});
  for (const event of client.events.splice(0)) {
    if (event.name === "pong") continue;
    assert.equal(event.name, "error", JSON.stringify(event));
    assert.equal(event.args[0].code, code);
    assert.equal(event.args[0].event, name);
  }
}

await run({
  async "the welcome comes first"() {
    const name = user("ada");
    const ada = new Client(name, { claims: { username: "Ada", roles: ["agent"] } });
    await ada.state("connect");
    assert.ok(!ada.socket.recovered);
    const connected = await ada.event("connected");
    assert.equal(connected.connectionId, ada.socket.id);
    assert.match(connected.timestamp, time);
    assert.equal(typeof connected.serverVersion, "string");
    assert.deepEqual(await ada.event("authenticated"), {
      user: { id: name, username: "Ada", roles: ["agent"] },
    });
    await ada.nothing();
  },

  async "the transport is the first, and in the end the last"() {
    const ada = await new Client(user("ada")).welcome();
    assert.equal(ada.opened, transports[0]);
    await until("the upgrade", () => ada.transport === transports.at(-1));
    await ada.nothing();
    assert.equal(ada.transport, transports.at(-1));
  },

  async "rooms are joined and left, with and without an ack"() {
    const ada = await new Client(user("ada")).welcome();
    const room = `trade:${letters("R")}-USDC`;
    const send = (n) => publisher.publish({ room, event: "trade_notification", data: { n } });
    assert.equal(await send(0), 0);
    assert.deepEqual(await ada.confirmed("join_room", { room }, "room_joined"), { room });
    assert.equal(await send(1), 1);
    assert.deepEqual(await ada.event("trade_notification"), { n: 1 });
    // Twice is once.
    ada.socket.emit("join_room", { room });
    assert.deepEqual(await ada.event("room_joined"), { room });
    assert.equal(await send(2), 1);
    assert.deepEqual(await ada.event("trade_notification"), { n: 2 });
    ada.socket.emit("leave_room", { room });
    assert.deepEqual(await ada.event("room_left"), { room });
    assert.equal(await send(3), 0);
    assert.deepEqual(await ada.confirmed("leave_room", { room }, "room_left"), { room });
    ada.socket.emit("join_room", { room });
    assert.deepEqual(await ada.event("room_joined"), { room });
    assert.equal(await send(4), 1);
    assert.deepEqual(await ada.event("trade_notification"), { n: 4 });
    await ada.nothing();
  },

  async "room and roomId are synonyms, and user-X means user:X"() {
    const name = user("ada");
    const ada = await new Client(name).welcome();
    const room = `price:${letters("S")}-USDC`;
    const joined = await ada.confirmed("join_room", { roomId: room, roomType: "trading" }, "room_joined");
    assert.deepEqual(joined, { room });
    assert.equal(await publisher.publish({ room, event: "price_update", data: { price: 1 } }), 1);
    assert.deepEqual(await ada.event("price_update"), { price: 1 });
    assert.deepEqual(await ada.confirmed("leave_room", { roomId: room }, "room_left"), { room });
    // The React example: the own room by its older name.
    const own = { roomId: `user-${name}`, roomType: "personal" };
    assert.deepEqual(await ada.confirmed("join_room", own, "room_joined"), { room: `user:${name}` });
    assert.equal(await publisher.publish({ user: name, event: "notification", data: { n: 1 } }), 1);
    assert.deepEqual(await ada.event("notification"), { n: 1 });
    await ada.nothing();
  },

  async "data arrives as it was published"() {
    const name = user("ada");
    const ada = await new Client(name).welcome();
    const send = async (data) => {
      await publisher.publish({ user: name, event: "notification", data });
      assert.deepEqual(await ada.event("notification"), data);
    };
    for (const data of [null, 0, 1.5e300, "text", 'quote " \\ \u2028 ü 🦀 \u001e \n', [], [1, [2]], { a: { b: [] } }]) {
      await send(data);
    }
    await send("x".repeat(50_000));
    await ada.nothing();
  },

  async "a newcomer to a price gets the newest"() {
    const room = `price:${letters("N")}-USDC`;
    for (const price of [1, 2, 3]) await publisher.publish({ room, event: "price_update", data: { price } });
    const ada = await new Client(user("ada")).welcome();
    assert.deepEqual(await ada.confirmed("join_room", { room }, "room_joined"), { room });
    assert.deepEqual(await ada.event("price_update"), { price: 3 });
    await ada.nothing();
  },

  async "rooms have shorthands"() {
    const name = user("ada");
    const ada = await new Client(name).welcome();
    const pair = `${letters("H")}-USDC`;
    const shorthands = [
      ["subscribe_price", { symbol: pair }, "price_subscribed", `price:${pair}`, "price", pair],
      ["subscribe_trades", { pair }, "trades_subscribed", `trade:${pair}`, "trades", pair],
      ["subscribe_orderbook", { symbol: pair }, "orderbook_subscribed", `orderbook:${pair}`, "orderbook", pair],
      ["subscribe_portfolio", {}, "portfolio_subscribed", `portfolio:${name}`, "portfolio", name],
      ["subscribe_orders", {}, "orders_subscribed", `orders:${name}`, "orders", name],
    ];
    for (const [event, data, confirmation, room, type, identifier] of shorthands) {
      const answer = await ada.confirmed(event, data, confirmation);
      assert.deepEqual(answer, Object.keys(data).length ? data : { userId: name });
      assert.equal(await publisher.publish({ room, event: "e", data: room }), 1, room);
      assert.equal(await ada.event("e"), room);
      const stop = { type, identifier };
      assert.deepEqual(await ada.confirmed("unsubscribe", stop, "unsubscribed"), stop);
      assert.equal(await publisher.publish({ room, event: "e", data: room }), 0, room);
    }
    await ada.nothing();
  },

  async "event types gather events of all rooms, each once"() {
    const name = user("ada");
    const ada = await new Client(name).welcome();
    const room = `price:${letters("T")}-USDC`;
    const types = ["price_updates", "portfolio_updates", "system_alerts"];
    assert.deepEqual(await ada.confirmed("subscribe", { types }, "subscribed"), { types });
    assert.equal(await publisher.publish({ room, event: "price_update", data: 1 }), 1);
    assert.equal(await ada.event("price_update"), 1);
    await ada.confirmed("join_room", { room }, "room_joined");
    assert.equal(await ada.event("price_update"), 1, "the newest value");
    assert.equal(await publisher.publish({ room, event: "price_update", data: 2 }), 1);
    assert.equal(await ada.event("price_update"), 2);
    await publisher.publish({ room: `portfolio:${name}`, event: "portfolio_update", data: 3 });
    assert.equal(await ada.event("portfolio_update"), 3);
    await publisher.publish({ broadcast: true, event: "system_alert", data: { level: "info" } });
    assert.deepEqual(await ada.event("system_alert"), { level: "info" });
    await refused(ada, "subscribe", { types: ["trade_notifications", "weather"] }, "INVALID_MESSAGE");
    await ada.nothing();
  },

  async "a direct message reaches all connections of the user, and is counted"() {
    const [alice, bob] = [user("alice"), user("bob")];
    const ada = await new Client(alice).welcome();
    const bobs = [await new Client(bob).welcome(), await new Client(bob).welcome()];
    const message = { text: "hello", n: 1 };
    assert.deepEqual(await ada.ask("direct_message", { to: bob, message }), { delivered: 2 });
    for (const each of bobs) {
      const { timestamp, ...rest } = await each.event("direct_message");
      assert.deepEqual(rest, { from: alice, message });
      assert.match(timestamp, time);
    }
    assert.deepEqual(await ada.ask("direct_message", { to: user("nobody"), message }), { delivered: 0 });
    ada.socket.emit("direct_message", { to: bob, message });
    for (const each of bobs) await each.event("direct_message");
    await refused(ada, "direct_message", { to: bob }, "INVALID_MESSAGE");
    for (const each of [ada, ...bobs]) await each.nothing();
  },

  async "a room message reaches the other members"() {
    const name = user("ada");
    const [phone, tablet] = [await new Client(name).welcome(), await new Client(name).welcome()];
    const guest = await new Client(user("guest"), { claims: { rooms: [`user:${name}`] } }).welcome();
    await guest.confirmed("join_room", { room: `user:${name}` }, "room_joined");
    phone.socket.emit("room_message", { roomId: `user-${name}`, message: "note" });
    for (const other of [tablet, guest]) {
      const { timestamp, ...rest } = await other.event("room_message");
      assert.deepEqual(rest, { room: `user:${name}`, from: name, message: "note" });
      assert.match(timestamp, time);
    }
    await refused(phone, "room_message", { room: "price:BTC-USDC", message: "hi" }, "ACCESS_DENIED");
    for (const each of [phone, tablet, guest]) await each.nothing();
  },

  async "presence tells now and from then on"() {
    const [alice, bob, eve] = [user("alice"), user("bob"), user("eve")];
    const ada = await new Client(alice).welcome();
    const other = await new Client(bob).welcome();
    const { users } = await ada.confirmed("presence", { userIds: [bob, eve] }, "presence");
    assert.deepEqual(
      users.map(({ userId, online }) => [userId, online]).sort(),
      [[bob, true], [eve, false]],
    );
    await new Client(eve).welcome();
    const come = await ada.event("presence_update");
    assert.deepEqual([come.userId, come.online], [eve, true]);
    other.close();
    // After the grace.
    const gone = await ada.event("presence_update");
    assert.deepEqual([gone.userId, gone.online], [bob, false]);
    assert.match(gone.timestamp, time);
    await ada.nothing();
  },

  async "ping is answered with both times"() {
    const ada = await new Client(user("ada")).welcome();
    const timestamp = "2025-05-20T14:30:00Z";
    const pong = await ada.confirmed("ping", { timestamp }, "pong");
    assert.equal(pong.timestamp, timestamp);
    assert.match(pong.serverTime, time);
    ada.socket.emit("ping");
    assert.match((await ada.event("pong")).serverTime, time);
    await ada.nothing();
  },

  async "errors say what is wrong, with and without an ack"() {
    const ada = await new Client(user("ada")).welcome();
    await refused(ada, "join_room", { room: "nothing:X" }, "ROOM_NOT_FOUND");
    await refused(ada, "join_room", { room: "user:somebody-else" }, "ACCESS_DENIED");
    await refused(ada, "join_room", {}, "INVALID_MESSAGE");
    await refused(ada, "no_such_event", {}, "INVALID_MESSAGE");
    ada.socket.emit("join_room", { room: "nothing:X" });
    const error = await ada.event("error");
    assert.deepEqual([error.code, error.event], ["ROOM_NOT_FOUND", "join_room"]);
    assert.ok(error.message.length > 5);
    ada.socket.emit("no_such_event", 1, [2], Buffer.from("three"));
    assert.equal((await ada.event("error")).code, "INVALID_MESSAGE");
    await ada.nothing();
  },

  async "a connect without a good token is refused with its code"() {
    const past = Math.floor(Date.now() / 1000) - 100;
    for (const [auth, code] of [
      [{}, "AUTH_REQUIRED"],
      [{ token: "nonsense" }, "AUTH_REQUIRED"],
      [{ token: `${token("ada-0001").slice(0, -3)}abc` }, "AUTH_REQUIRED"],
      [{ token: token("ada-0001", { exp: past }) }, "TOKEN_EXPIRED"],
    ]) {
      const ada = new Client(null, { auth });
      const [, message, data] = await ada.state("connect_error");
      assert.match(message, /^401/);
      assert.equal(data.code, code);
      assert.ok(!ada.socket.connected);
      // Another try with a good one, on the same connection where that is still open.
      ada.socket.auth = { token: token(user("ada")) };
      ada.socket.connect();
      await ada.welcome();
      await ada.nothing();
    }
  },

  async "a token over, later, is told and can be renewed"() {
    const name = user("ada");
    const ada = await new Client(name, { claims: { exp: Math.floor(Date.now() / 1000) - 2 } }).welcome();
    await ada.event("token_expired");
    const ack = await ada.ask("authenticate", { token: "nonsense" });
    assert.equal(ack.error?.code, "AUTH_REQUIRED", JSON.stringify(ack));
    assert.equal((await ada.event("auth_error")).code, "AUTH_REQUIRED");
    const again = await ada.confirmed("authenticate", { token: token(name) }, "authenticated");
    assert.equal(again.user.id, name);
    await ada.nothing();
  },

  async "an unknown namespace is refused and the others go on"() {
    const nowhere = new Client(user("ada"), { namespace: "/nowhere" });
    const [, message] = await nowhere.state("connect_error");
    assert.equal(message, "Invalid namespace");
    // A namespace more on the same connection.
    const root = nowhere.socket.io.socket("/", { auth: { token: token(user("ada")) } });
    let welcomed = false;
    root.on("authenticated", () => (welcomed = true));
    root.connect();
    await until("the welcome of the other namespace", () => welcomed);
    root.disconnect();
  },

  async "a client that disconnects can connect again"() {
    const name = user("ada");
    const ada = await new Client(name).welcome();
    const first = ada.socket.id;
    ada.socket.disconnect();
    assert.deepEqual(await ada.state("disconnect"), ["disconnect", "io client disconnect"]);
    await ada.ended();
    ada.socket.connect();
    await ada.state("connect", 2);
    await ada.welcome();
    assert.notEqual(ada.socket.id, first);
    assert.equal(await publisher.publish({ user: name, event: "notification", data: 1 }), 1);
    assert.equal(await ada.event("notification"), 1);
    await ada.nothing();
  },
});
