// Connection state recovery: a client whose TCP connection is cut comes back with its rooms and all that it missed.
// Where KEPT is set, the server keeps the state for so many ms only.

import assert from "node:assert/strict";

import { Client, Publisher, letters, run, token, until, user } from "./harness.mjs";
import { Proxy } from "./proxy.mjs";

const publisher = await Publisher.connect();

/** A client behind a proxy of its own, that tries again soon. */
class Cut {
  static async connect(options = {}) {
    const cut = new Cut();
    cut.proxy = await Proxy.start();
    cut.name = user("ada");
    cut.client = new Client(cut.name, {
      at: cut.proxy.at,
      auth: { recover: true },
      reconnection: true,
      reconnectionDelay: 20,
      reconnectionDelayMax: 50,
      ...options,
    });
    /** The numbers of the events that came. */
    cut.seen = [];
    cut.client.socket.on("tick", ({ n }) => cut.seen.push(n));
    await cut.client.state("connect");
    await until("the welcome", () => cut.client.events.some(({ name }) => name === "authenticated"));
    return cut;
  }

  get socket() {
    return this.client.socket;
  }

  async join(room) {
    assert.deepEqual(await this.client.ask("join_room", { room }), { room });
  }

  /** Cuts the connection, does something meanwhile, lets the client come back; returns whether it is recovered. */
  async away(meanwhile = () => {}) {
    const { client, proxy } = this;
    const before = client.states.length;
    proxy.cut();
    await client.state("disconnect", before);
    assert.ok(client.socket.active, "it tries again");
    await meanwhile();
    proxy.open();
    await client.state("connect", before);
    // Undefined where the server offers no recovery.
    return client.socket.recovered === true;
  }

  /** Waits until the numbers 1 to `last` have come, once and in order, and nothing else. */
  async whole(last) {
    await until(() => `event ${last}: ${this.seen}`, () => this.seen.at(-1) >= last);
    await this.client.ask("ping", {});
    assert.deepEqual(this.seen, Array.from({ length: last }, (_, at) => at + 1));
  }
}

/** Publishes the next numbers to one target after the other. */
class Counter {
  n = 0;

  constructor(...targets) {
    this.targets = targets;
  }

  async publish(count) {
    for (let left = count; left > 0; left--) {
      const n = (this.n += 1);
      const line = { ...this.targets[n % this.targets.length], event: "tick", data: { n } };
      if (left > 1) publisher.send(line);
      else await publisher.publish(line);
    }
  }
}

const scenarios = {
  async "three cuts in a row, with all that was missed, once"() {
    const cut = await Cut.connect();
    const [room, other] = [`trade:${letters("C")}-USDC`, `orders:${cut.name}`];
    await cut.join(room);
    await cut.join(other);
    const counter = new Counter({ room }, { room: other }, { user: cut.name }, { room }, { broadcast: true });
    await counter.publish(6);
    await cut.whole(counter.n);
    const { id } = cut.socket;
    for (let time = 0; time < 3; time++) {
      assert.equal(await cut.away(() => counter.publish(20)), true, `cut ${time + 1}`);
      await cut.whole(counter.n);
      assert.equal(cut.socket.id, id);
      await counter.publish(3);
      await cut.whole(counter.n);
    }
    // Still a client like any other.
    await cut.client.ask("leave_room", { room });
    assert.equal(await publisher.publish({ room, event: "tick", data: { n: 0 } }), 0);
    await cut.whole(counter.n);
  },

  async "three cuts in a row without an event between them"() {
    const cut = await Cut.connect();
    const room = `trade:${letters("C")}-USDC`;
    const counter = new Counter({ room });
    await cut.join(room);
    await counter.publish(1);
    await cut.whole(1);
    for (let time = 0; time < 3; time++) assert.equal(await cut.away(), true, `cut ${time + 1}`);
    await counter.publish(2);
    await cut.whole(3);
  },

  async "cuts under a stream"() {
    const cut = await Cut.connect();
    const room = `trade:${letters("C")}-USDC`;
    await cut.join(room);
    const stream = publisher.stream(room, 200);
    for (let time = 0; time < 5; time++) {
      const enough = cut.seen.length + 20;
      await until("some events", () => cut.seen.length >= enough);
      const missing = stream.sent + 20;
      assert.equal(await cut.away(() => until("missed events", () => stream.sent >= missing)), true);
    }
    await cut.whole(stream.stop());
  },

  async "a cut that the server has not noticed"() {
    const cut = await Cut.connect();
    const room = `trade:${letters("C")}-USDC`;
    await cut.join(room);
    const counter = new Counter({ room });
    await counter.publish(2);
    await cut.whole(2);
    for (let time = 0; time < 3; time++) {
      const before = cut.client.states.length;
      // As when a phone changes its network: for the server the connection is there, and takes what is written.
      cut.proxy.cutClients();
      await cut.client.state("disconnect", before);
      await counter.publish(5);
      cut.proxy.open();
      await cut.client.state("connect", before);
      assert.equal(cut.socket.recovered, true, `cut ${time + 1}`);
      await cut.whole(counter.n);
      assert.equal(await publisher.publish({ room, event: "other", data: 0 }), 1, "nothing is left of the old one");
    }
  },

  async "right after the first connect, without any event"() {
    const cut = await Cut.connect();
    const { id } = cut.socket;
    assert.equal(await cut.away(), true);
    assert.equal(cut.socket.id, id);
    const counter = new Counter({ user: cut.name });
    assert.equal(await cut.away(() => counter.publish(2)), true);
    await cut.whole(2);
  },

  async "a room joined before the cut, without any event"() {
    const cut = await Cut.connect();
    const room = `trade:${letters("C")}-USDC`;
    const counter = new Counter({ room });
    await cut.join(room);
    assert.equal(await cut.away(() => counter.publish(5)), true);
    await counter.publish(5);
    await cut.whole(10);
  },

  async "event types come back too"() {
    const cut = await Cut.connect();
    const room = `trade:${letters("C")}-USDC`;
    assert.ok((await cut.client.ask("subscribe", { types: ["trade_notifications"] })).types);
    const seen = [];
    cut.socket.on("trade_notification", (n) => seen.push(n));
    const send = (data) => publisher.publish({ room, event: "trade_notification", data });
    await send(1);
    await until("the first", () => seen.length === 1);
    assert.equal(await cut.away(async () => (await send(2), await send(3))), true);
    await send(4);
    await until("the last", () => seen.length >= 4);
    await cut.client.ask("ping", {});
    assert.deepEqual(seen, [1, 2, 3, 4]);
  },

  async "of a price the newest value comes back"() {
    const cut = await Cut.connect();
    const room = `price:${letters("C")}-USDC`;
    const prices = [];
    cut.socket.on("price_update", ({ price }) => prices.push(price));
    const send = (price) => publisher.publish({ room, event: "price_update", data: { price } });
    await cut.join(room);
    await send(1);
    await until("the first", () => prices.length === 1);
    const missed = async () => {
      for (const price of [2, 3, 4]) await send(price);
    };
    assert.equal(await cut.away(missed), true);
    await until("the newest", () => prices.at(-1) === 4);
    await send(5);
    await until("a new one", () => prices.at(-1) === 5);
    assert.deepEqual(prices, [...new Set(prices)].sort((a, b) => a - b), "none twice, none after a newer one");
  },

  async "asked for in the query"() {
    const cut = await Cut.connect({ auth: {}, query: { recover: 1 } });
    const counter = new Counter({ user: cut.name });
    await counter.publish(1);
    await cut.whole(1);
    assert.equal(await cut.away(() => counter.publish(2)), true);
    await cut.whole(3);
  },

  async "not asked for"() {
    const cut = await Cut.connect({ auth: {} });
    const room = `trade:${letters("C")}-USDC`;
    assert.equal(cut.socket._pid, undefined);
    await cut.join(room);
    const counter = new Counter({ room });
    await counter.publish(1);
    await cut.whole(1);
    for (const { name, args } of cut.client.events) assert.equal(args.length, 1, `no offset with ${name}`);
    const { id } = cut.socket;
    assert.equal(await cut.away(), false);
    assert.notEqual(cut.socket.id, id);
    await counter.publish(1);
    await cut.whole(1);
  },

  async "more was missed than is kept"() {
    const cut = await Cut.connect();
    const room = `trade:${letters("C")}-USDC`;
    const counter = new Counter({ room });
    for (const events of [1_100, 300]) {
      cut.seen.length = 0;
      counter.n = 0;
      await cut.join(room);
      await counter.publish(1);
      await cut.whole(1);
      const { id } = cut.socket;
      // Many events; then many bytes.
      const text = events === 300 ? "x".repeat(1_024) : "";
      const away = async () => {
        for (let n = 0; n < events; n++) publisher.send({ room, event: "tick", data: { n, text } });
        await publisher.publish({ room, event: "tick", data: { n: 0 } });
      };
      assert.equal(await cut.away(away), false);
      assert.notEqual(cut.socket.id, id);
      assert.deepEqual(cut.seen, [1], "nothing in part");
      await publisher.publish({ room, event: "tick", data: { n: 9 } });
      await cut.whole(1);
    }
    // What follows can be recovered again.
    cut.seen.length = 0;
    counter.n = 0;
    await cut.join(room);
    await counter.publish(1);
    await cut.whole(1);
    assert.equal(await cut.away(() => counter.publish(3)), true);
    await cut.whole(4);
  },

  async "longer than the state is kept"() {
    const cut = await Cut.connect();
    const room = `trade:${letters("C")}-USDC`;
    await cut.join(room);
    const counter = new Counter({ room });
    await counter.publish(1);
    await cut.whole(1);
    // By polling the server may have to miss an answer to a ping before it knows.
    const longer = 5 * Number(process.env.KEPT);
    assert.equal(await cut.away(() => new Promise((done) => setTimeout(done, longer))), false);
    await counter.publish(1);
    await cut.whole(1);
  },

  async "a client that left is not recovered"() {
    const cut = await Cut.connect();
    const room = `trade:${letters("C")}-USDC`;
    await cut.join(room);
    const counter = new Counter({ room });
    await counter.publish(1);
    await cut.whole(1);
    cut.socket.disconnect();
    await cut.client.ended();
    cut.socket.connect();
    await cut.client.state("connect", 2);
    assert.equal(cut.socket.recovered, false);
    await counter.publish(1);
    await cut.whole(1);
  },

  async "nobody gets another user's state"() {
    const cut = await Cut.connect();
    const counter = new Counter({ user: cut.name });
    await counter.publish(2);
    await cut.whole(2);
    const stolen = { pid: cut.socket._pid, offset: cut.socket._lastOffset };
    assert.equal(typeof stolen.pid, "string");
    cut.proxy.cut();
    await cut.client.state("disconnect");
    await counter.publish(2);
    const eve = new Client(null, { auth: { token: token(user("eve")), recover: true, ...stolen } });
    await eve.state("connect");
    assert.equal(eve.socket.recovered, false);
    await eve.ask("ping", {});
    assert.ok(!eve.events.some(({ name }) => name === "tick"), JSON.stringify(eve.events));
  },

  async "a pid or offset that nobody gave out"() {
    for (const forged of [
      { pid: "nonsense" },
      { pid: "nonsense", offset: "7" },
      { pid: "A".repeat(22), offset: "-1" },
      { pid: 7, offset: 7 },
      { pid: null },
      { pid: "A".repeat(10_000), offset: "A".repeat(10_000) },
    ]) {
      const ada = new Client(user("ada"), { auth: { recover: true, ...forged } });
      await ada.state("connect");
      assert.equal(ada.socket.recovered, false);
      await ada.ask("ping", {});
    }
  },
};

if (!process.env.KEPT) delete scenarios["longer than the state is kept"];
await run(scenarios);
