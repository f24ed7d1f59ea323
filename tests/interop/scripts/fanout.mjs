// Many clients on both transports get the same events. A polling client's requests come on ever new connections.

import assert from "node:assert/strict";
import http from "node:http";

import { Client, Publisher, letters, run, until, user } from "./harness.mjs";

const EACH = 200;
const EVENTS = 300;

const publisher = await Publisher.connect();

/** Connects `count` clients to `room`, some at a time. */
async function connect(count, room, options) {
  const clients = [];
  while (clients.length < count) {
    const some = Array.from({ length: 25 }, () => new Client(user("ada"), options));
    await Promise.all(some.map((client) => client.welcome()));
    await Promise.all(some.map((client) => client.confirmed("join_room", { room }, "room_joined")));
    clients.push(...some);
  }
  return clients;
}

/** Publishes numbers, and asserts that every client gets just these, in this order. */
async function same(clients, room) {
  const expected = [];
  for (let n = 0; n < EVENTS; n++) {
    expected.push(n);
    const line = { room, event: "tick", data: { n, text: `${n} `.repeat(n % 50) } };
    if (n % 50 === 0) assert.equal(await publisher.publish(line), clients.length);
    else publisher.send(line);
  }
  for (const client of clients) {
    const describe = () => `${client.events.length} of ${EVENTS} events; ${JSON.stringify(client.states)}`;
    await until(describe, () => client.events.length >= EVENTS || client.states.length > 1);
    assert.deepEqual(client.states, [["connect"]]);
    const numbers = client.events.splice(0).map(({ name, args }) => (name === "tick" ? args[0].n : name));
    assert.deepEqual(numbers, expected);
  }
  for (const client of clients) {
    await client.ask("ping", {});
    assert.deepEqual(client.events.splice(0).map(({ name }) => name), ["pong"]);
  }
}

await run({
  async "200 polling and 200 websocket clients get the same"() {
    const room = `trade:${letters("F")}-USDC`;
    const clients = [
      ...(await connect(EACH, room, { transports: ["polling"] })),
      ...(await connect(EACH, room, { transports: ["websocket"] })),
    ];
    await same(clients, room);
    return { clients: clients.length };
  },

  async "polling clients that keep their connections, and share them"() {
    const room = `trade:${letters("F")}-USDC`;
    const agent = new http.Agent({ keepAlive: true, maxSockets: 120 });
    const clients = await connect(50, room, { transports: ["polling"], agent });
    await same(clients, room);
    for (const client of clients) client.close();
    agent.destroy();
  },
});
