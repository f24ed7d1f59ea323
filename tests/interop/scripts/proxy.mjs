// A TCP proxy between a client and the server, which can cut connections and hold back upgrades.

import net from "node:net";

import { address } from "./harness.mjs";

export class Proxy {
  static async start() {
    const proxy = new Proxy();
    /** Connections of clients, each with its connection to the server where it has one already. */
    proxy.pairs = new Map();
    /** Connections to the server whose clients have been cut. */
    proxy.orphans = new Set();
    /** While true, new connections are cut at once. */
    proxy.closed = false;
    /** While true, connections that ask for an upgrade wait in `held`. */
    proxy.holdUpgrades = false;
    proxy.frozen = false;
    proxy.held = [];
    proxy.server = net.createServer((client) => proxy.#accept(client));
    await new Promise((done) => proxy.server.listen(0, "127.0.0.1", done));
    return proxy;
  }

  /** Where clients connect. */
  get at() {
    return { host: "127.0.0.1", port: this.server.address().port };
  }

  #accept(client) {
    client.on("error", () => client.destroy());
    if (this.closed) {
      client.destroy();
      return;
    }
    client.setNoDelay(true);
    this.pairs.set(client, undefined);
    client.on("close", () => this.pairs.delete(client));
    // The head of the first request says what the connection is for.
    client.once("data", (head) => {
      const go = () => this.#join(client, head);
      if (this.frozen) {
        client.pause();
      } else if (this.holdUpgrades && /\r\nupgrade: websocket/i.test(head.toString("latin1"))) {
        client.pause();
        this.held.push({ client, go });
      } else {
        go();
      }
    });
  }

  #join(client, head) {
    if (client.destroyed) return;
    const server = net.connect({ ...address, noDelay: true });
    this.pairs.set(client, server);
    const end = () => {
      client.destroy();
      if (!this.orphans.has(server)) server.destroy();
    };
    for (const socket of [client, server]) {
      socket.on("error", end);
      socket.on("close", end);
    }
    server.write(head);
    client.pipe(server);
    server.pipe(client);
    client.resume();
  }

  /** Lets the upgrades that wait go on, and those to come. */
  release() {
    this.holdUpgrades = false;
    for (const { go } of this.held.splice(0)) go();
  }

  /** Cuts the upgrades that wait. */
  drop() {
    for (const { client } of this.held.splice(0)) client.destroy();
  }

  /** Cuts every connection without a word, and takes no new one until `open`. */
  cut() {
    this.closed = true;
    for (const [client, server] of [...this.pairs]) {
      client.destroy();
      server?.destroy();
    }
  }

  /** Cuts the clients' side only: towards the server all goes on, and what it sends is thrown away. */
  cutClients() {
    this.closed = true;
    for (const [client, server] of [...this.pairs]) {
      if (server) {
        this.orphans.add(server);
        server.unpipe(client).resume();
      }
      client.destroy();
    }
  }

  /** Lets nothing more through, and tells neither side; new connections get no answer. */
  freeze() {
    this.frozen = true;
    for (const [client, server] of this.pairs) {
      client.unpipe(server).pause();
      server?.unpipe(client).pause();
    }
  }

  open() {
    this.closed = false;
  }

  close() {
    this.cut();
    for (const server of this.orphans) server.destroy();
    this.server.close();
  }
}
