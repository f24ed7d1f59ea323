// Clients that go from polling to WebSocket while a room has 1,000 events a second: each must see all of them, once
// and in order, from before the upgrade until after it.

import assert from "node:assert/strict";

import { Client, Publisher, letters, run, until, user } from "./harness.mjs";
import { Proxy } from "./proxy.mjs";

const RATE = 1_000;

/** Events that a client must have seen on either transport. */
const EACH = 300;

const publisher = await Publisher.connect();

/** A client whose upgrade waits in its proxy until it is released. */
class Upgrading {
  static async connect(room) {
    const upgrading = new Upgrading();
    upgrading.proxy = await Proxy.start();
    upgrading.proxy.holdUpgrades = true;
    upgrading.client = new Client(user("ada"), { at: upgrading.proxy.at, transports: ["polling", "websocket"] });
    /** The numbers that came, by transport. */
    upgrading.seen = { polling: [], websocket: [] };
    const { client, seen } = upgrading;
    client.socket.on("tick", ({ n }) => seen[client.transport].push(n));
    client.socket.emit("join_room", { room });
    await client.state("connect");
    return upgrading;
  }

  async upgrade() {
    await until("events by polling", () => this.seen.polling.length >= EACH);
    assert.equal(this.client.transport, "polling");
    this.proxy.release();
    await until("the upgrade", () => this.client.transport === "websocket");
    await until("events by WebSocket", () => this.seen.websocket.length >= EACH);
  }

  /** The first number that came, after asserting that all up to `last` followed, once and in order. */
  async check(last) {
    await until(`event ${last}`, () => this.seen.websocket.at(-1) >= last);
    const all = [...this.seen.polling, ...this.seen.websocket];
    const wrong = all.findIndex((n, at) => n !== all[0] + at);
    const around = all.slice(Math.max(wrong - 5, 0), wrong + 5);
    assert.equal(wrong, -1, `at ${wrong}, after ${this.seen.polling.length} by polling: ${around}`);
    assert.equal(all.at(-1), last);
    await this.client.ask("ping", {});
    assert.equal(this.seen.websocket.at(-1), last, "nothing comes after the last");
    this.client.close();
    this.proxy.close();
    return all.length;
  }
}

await run({
  async "clients upgrade one after the other"() {
    const room = `trade:${letters("U")}-USDC`;
    const stream = publisher.stream(room, RATE);
    const clients = [];
    for (let n = 0; n < 6; n++) clients.push(await Upgrading.connect(room));
    for (const client of clients) await client.upgrade();
    const last = stream.stop();
    for (const client of clients) await client.check(last);
    return { last };
  },

  async "clients upgrade all at once"() {
    const room = `trade:${letters("U")}-USDC`;
    const stream = publisher.stream(room, RATE);
    const clients = await Promise.all(Array.from({ length: 10 }, () => Upgrading.connect(room)));
    await Promise.all(clients.map((client) => client.upgrade()));
    const last = stream.stop();
    for (const client of clients) await client.check(last);
    return { last };
  },

  async "what clients say during the upgrade arrives in order too"() {
    const room = `trade:${letters("U")}-USDC`;
    const stream = publisher.stream(room, RATE);
    const upgrading = await Upgrading.connect(room);
    const answers = [];
    let asked = 0;
    const timer = setInterval(() => {
      const n = (asked += 1);
      upgrading.client.socket.emit("ping", { timestamp: n }, ({ timestamp }) => answers.push([n, timestamp]));
    }, 10);
    await upgrading.upgrade();
    clearInterval(timer);
    await until("every answer", () => answers.length === asked);
    assert.deepEqual(answers, answers.map((_, at) => [at + 1, at + 1]));
    await upgrading.check(stream.stop());
    return { asked };
  },

  async "an upgrade that is cut leaves the session where it was"() {
    const room = `trade:${letters("U")}-USDC`;
    const stream = publisher.stream(room, RATE);
    const upgrading = await Upgrading.connect(room);
    const { client, proxy, seen } = upgrading;
    await until("the probe", () => proxy.held.length === 1);
    proxy.drop();
    await until("events by polling", () => seen.polling.length >= EACH);
    const last = stream.stop();
    await until("the last", () => seen.polling.at(-1) >= last);
    assert.deepEqual(seen.polling, seen.polling.map((_, at) => seen.polling[0] + at));
    assert.equal(client.transport, "polling");
    assert.ok(client.socket.connected);
  },
});
