// How connections end and go on: a backend's disconnect, the drain, heartbeats.

import assert from "node:assert/strict";

import { Client, Publisher, input, letters, print, run, until, user } from "./harness.mjs";
import { Proxy } from "./proxy.mjs";

const transports = process.env.TRANSPORTS.split(",");

/** Tries again soon. */
const again = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 };

/** A client that has come to its last transport. */
async function settled(name, options) {
  const client = await new Client(name, options).welcome();
  await until("the upgrade", () => client.transport === transports.at(-1));
  return client;
}

await run({
  async "a backend's disconnect is for good"() {
    const publisher = await Publisher.connect();
    const name = user("ada");
    const clients = [await settled(name, again), await settled(name, again)];
    const bystander = await settled(user("bob"));
    const line = { op: "disconnect", user: name, code: 4001, reason: "account locked" };
    assert.deepEqual(await publisher.ask(line), { ok: true, connections: 2 });
    for (const client of clients) {
      assert.deepEqual(await client.state("disconnect"), ["disconnect", "io server disconnect"]);
      assert.equal(client.socket.active, false, "it does not try again");
      await client.ended();
    }
    await bystander.nothing();
    // By its own wish it may.
    clients[0].socket.connect();
    await clients[0].state("connect", 2);
    await clients[0].welcome();
    publisher.close();
  },

  // The test program ends the broker and starts another in its place.
  async "clients of a broker that ends come back to the next"() {
    const clients = [];
    for (let n = 0; n < 6; n++) clients.push(await settled(user("ada"), again));
    print({ say: "connected" });
    for (const client of clients) {
      const [, reason] = await client.state("disconnect");
      // A polling client may have been between two polls, and finds nobody for the next.
      const reasons = ["transport close", ...(transports.at(-1) === "polling" ? ["transport error"] : [])];
      assert.ok(reasons.includes(reason), reason);
      assert.equal(client.socket.active, true, "it tries again");
    }
    print({ say: "disconnected" });
    await input("started");
    for (const client of clients) {
      await client.state("connect", 2);
      await client.welcome();
      await client.nothing();
    }
  },

  async "heartbeats keep a quiet client"() {
    const publisher = await Publisher.connect();
    const room = `trade:${letters("E")}-USDC`;
    const client = await settled(user("ada"));
    await client.confirmed("join_room", { room }, "room_joined");
    let pings = 0;
    client.engine.on("packet", ({ type }) => (pings += type === "ping"));
    await until("pings", () => pings >= 3);
    assert.deepEqual(client.states, [["connect"]]);
    assert.equal(await publisher.publish({ room, event: "tick", data: 1 }), 1);
    assert.equal(await client.event("tick"), 1);
    await client.nothing();
    publisher.close();
  },

  async "a client that has gone silent is let go on both sides"() {
    const publisher = await Publisher.connect();
    const proxy = await Proxy.start();
    const room = `trade:${letters("E")}-USDC`;
    const client = await settled(user("ada"), { at: proxy.at });
    await client.confirmed("join_room", { room }, "room_joined");
    assert.equal(await publisher.publish({ room, event: "tick", data: 1 }), 1);
    proxy.freeze();
    assert.deepEqual(await client.state("disconnect"), ["disconnect", "ping timeout"]);
    let subscribers = 1;
    while (subscribers > 0) subscribers = await publisher.publish({ room, event: "tick", data: 2 });
    proxy.close();
    publisher.close();
  },
});
