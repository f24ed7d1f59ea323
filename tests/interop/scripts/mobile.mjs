// The app mobile as a socket.io client sees it: two namespaces on one connection, what came meanwhile, wallets.

import assert from "node:assert/strict";

import { Client, Publisher, address, require, run, token, until, user } from "./harness.mjs";

const publisher = await Publisher.connect();
const { io } = require(process.env.CLIENT);

/** A request over HTTP as a user, and its body. */
async function rest(name, method, path, body) {
  const response = await fetch(`http://${address.host}:${address.port}${path}`, {
    method,
    headers: { authorization: `Bearer ${token(name)}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  return [response.status, await response.json()];
}

const say = (from, to, content) =>
  rest(from, "POST", "/api/chat/personal/messages", { recipientId: to, content });

await run({
  async "what came meanwhile, what comes live, and not again"() {
    const [ada, bob] = [user("ada"), user("bob")];
    const said = [];
    for (let n = 0; n < 10; n += 1) {
      const [status, message] = await say(ada, bob, `${n}`);
      assert.equal(status, 201);
      said.push(message);
    }
    const open = async (name) => {
      const client = new Client(name, { namespace: "/chat" });
      await client.state("connect");
      const welcome = await client.event("chat:connected");
      assert.deepEqual([welcome.userId, welcome.socketId], [name, client.socket.id]);
      return client;
    };
    const first = await open(bob);
    for (const message of said) assert.deepEqual(await first.event("message:received"), message);
    assert.deepEqual(await first.confirmed("user:register", { userId: bob }, "user:registered"), {
      userId: bob,
      socketId: first.socket.id,
    });
    const second = await open(bob);
    const sender = await open(ada);
    const sent = await sender.ask("message:send", { recipientId: bob, content: "live", clientMessageId: "c1" });
    for (const client of [first, second, sender]) {
      assert.deepEqual(await client.event("message:received"), sent);
    }
    assert.deepEqual(await sender.ask("message:send", { recipientId: bob, content: "live", clientMessageId: "c1" }), sent);
    for (const event of ["typing:start", "typing:stop"]) {
      sender.socket.emit(event, { recipientId: bob });
      for (const client of [first, second]) assert.equal((await client.event(event)).roomId, sent.roomId);
    }
    const refused = await sender.ask("user:register", { userId: bob });
    assert.equal(refused.error.code, "ACCESS_DENIED");
    assert.equal((await sender.event("message:error")).code, "ACCESS_DENIED");
    for (const client of [first, second, sender]) client.socket.disconnect();
    const third = await open(bob);
    await third.confirmed("heartbeat", {}, "heartbeat:ack");
    assert.deepEqual(third.events, []);
  },

  async "both namespaces share a connection, and each gets its part"() {
    const name = user("ada");
    const options = { transports: process.env.TRANSPORTS.split(","), auth: { token: token(name) }, reconnection: false };
    const chat = io(`http://${address.host}:${address.port}/chat`, { ...options, forceNew: true });
    const wallet = chat.io.socket("/wallet", options);
    const events = { chat: [], wallet: [] };
    chat.onAny((event, data) => events.chat.push([event, data]));
    wallet.onAny((event, data) => events.wallet.push([event, data]));
    wallet.connect();
    await until("both welcomes", () => events.chat.length === 1 && events.wallet.length === 1);
    assert.equal(events.chat[0][0], "chat:connected");
    assert.equal(events.wallet[0][0], "wallet:connected");
    const data = { currency: "BTC", balance: "0.50" };
    assert.equal(await publisher.publish({ user: name, event: "balance:updated", data }), 1);
    assert.equal(await publisher.publish({ user: name, event: "transaction:added", data: { id: "t1" } }), 1);
    assert.equal(await publisher.publish({ user: name, event: "notification", data: { n: 1 } }), 1);
    await until("its part", () => events.chat.length === 2 && events.wallet.length === 3);
    assert.deepEqual(events.chat[1], ["notification", { n: 1 }]);
    assert.deepEqual(events.wallet.slice(1), [["balance:updated", data], ["transaction:added", { id: "t1" }]]);
    const [, balance] = await rest(name, "GET", "/api/wallet/balance");
    assert.deepEqual(balance.balances.map(({ currency, balance }) => ({ currency, balance })), [data]);
    const [, transactions] = await rest(name, "GET", "/api/wallet/transactions");
    assert.deepEqual(transactions, { transactions: [{ id: "t1" }], nextBefore: null });
    wallet.disconnect();
    chat.disconnect();
  },

  async "without a token there is no chat"() {
    const nobody = new Client(null, { namespace: "/chat" });
    const [, message, data] = await nobody.state("connect_error");
    assert.match(message, /^401 /);
    assert.equal(data.code, "AUTH_REQUIRED");
  },
});
