// The test page in Chromium, for the scenarios. The browser reaches nothing but the broker: whatever else a page asks for is
// refused, and is a failure.
//
//   CHROMIUM      the browser's program
//   SCREENSHOTS   the folder for pictures

import assert from "node:assert/strict";
import path from "node:path";

import { Publisher, address, require, run } from "./harness.mjs";

const { chromium } = require("playwright-core");
const { CHROMIUM, SCREENSHOTS } = process.env;

const origin = `http://${address.host}:${address.port}`;
export const PAIRS = ["BTC-USDC", "ETH-USDC", "SOL-USDC", "LINK-USDC", "DOGE-USDC"];
const OPEN = [61_837.63, 2_682.1, 153.42, 10.427, 0.10215];

/** Connections that the page shows. */
const DOTS = ["market", "account", "conversation", "support", "chat", "wallet"];

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  // Names are not even looked up.
  args: ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-proxy-server"],
});
export const publisher = await Publisher.connect();

/** What is to be ended after a scenario, however that ended. */
const ends = [];

/** A window of its own, with all that went wrong in it. */
export class Window {
  /** `as`: who signs in; `keep`: for the scenarios that follow too. The rest is of the browser's context. */
  static async open({ as, keep = false, ...options } = {}) {
    const window = new Window();
    window.faults = [];
    const context = await browser.newContext({ viewport: { width: 1440, height: 1000 }, locale: "en-GB", ...options });
    window.context = context;
    if (!keep) ends.push(() => context.close());
    const fault = (text) => window.faults.push(text);
    await context.route(
      (url) => url.origin !== origin,
      (route) => (fault(`asked for ${route.request().url()}`), route.abort()),
    );
    await context.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => {
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    const page = await context.newPage();
    window.page = page;
    page.setDefaultTimeout(30_000);
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) fault(`${message.type()}: ${message.text()}`);
    });
    page.on("pageerror", (error) => fault(String(error.stack)));
    page.on("response", (answer) => answer.status() >= 400 && fault(`${answer.status()} ${answer.url()}`));
    page.on("websocket", (socket) => new URL(socket.url()).host === new URL(origin).host || fault(socket.url()));
    const search = as ? `?as=${encodeURIComponent(as)}` : "";
    await page.goto(`${origin}/websocket_test${search}`);
    return window;
  }

  /** Waits until every connection is in a state, and takes note of who has signed in. */
  async settled(state = "up") {
    const { page } = this;
    const dots = () =>
      page.$$eval("[data-status]", (all) => all.map((dot) => [dot.dataset.status, dot.dataset.state, dot.value]));
    try {
      await page.waitForFunction(
        ([state, count]) => document.querySelectorAll(`[data-status][data-state=${state}]`).length === count,
        [state, DOTS.length],
      );
    } catch {
      throw new Error(`not all are ${state}: ${JSON.stringify(await dots())} ${this.faults.join("\n")}`);
    }
    assert.deepEqual((await dots()).map(([name]) => name), DOTS);
    this.user = await page.textContent("#user-id");
  }

  /** Waits until an element has a text. */
  async has(selector, text) {
    await this.page.locator(selector, { hasText: text }).first().waitFor();
  }

  /** Writes a message in a card's chat, and sends it. */
  async say(card, text) {
    await this.page.fill(`.${card} .send input`, text);
    await this.page.click(`.${card} .send button`);
  }

  async picture(name) {
    const screenshot = path.join(SCREENSHOTS, `${name}.png`);
    await this.page.screenshot({ path: screenshot, fullPage: true });
    return screenshot;
  }

  /** Nothing was wrong, neither on the console nor on the network. */
  async close() {
    await this.context.close();
    assert.deepEqual(this.faults, []);
  }
}

let step = 0;

/** Prices, books and trades of all pairs, each a little off the last ones. */
export function market() {
  step += 1;
  const timestamp = new Date().toISOString();
  PAIRS.forEach((symbol, at) => {
    const change = Math.sin(step / 3 + at) * 1.4 + Math.sin(step / 1.3 + at * 2) * 0.6;
    const price = Number((OPEN[at] * (1 + change / 100)).toPrecision(7));
    const volume = Number((step * 8.17 * (at + 1)).toFixed(2));
    const data = { symbol, price, change: Number(change.toFixed(2)), volume, timestamp };
    publisher.send({ room: `price:${symbol}`, event: "price_update", data });
    const side = (sign) =>
      [1, 2, 3, 4, 5].map((n) => [price * (1 + (sign * n) / 5_000), ((step * n * 7 + at) % 9) + 0.5 * n]);
    const book = { symbol, bids: side(-1), asks: side(1), timestamp };
    publisher.send({ room: `orderbook:${symbol}`, event: "order_book_update", data: book });
    const trade = { symbol, price, amount: 0.25 * ((step % 7) + 1), side: step % 2 ? "buy" : "sell", timestamp };
    publisher.send({ room: `trade:${symbol}`, event: "trade_notification", data: trade });
  });
}

/** Publishes to a user, and sees that it had somebody to go to. */
export async function tell(user, event, data) {
  assert.ok((await publisher.publish({ user, event, data })) > 0, event);
}

/** Publishes the market until the scenario ends. */
export function live() {
  const timer = setInterval(market, 200);
  ends.push(() => clearInterval(timer));
}

/** Runs scenarios, and ends what they leave behind. */
export async function scenarios(all) {
  const ended = (body) => async () => {
    try {
      return await body();
    } finally {
      for (const end of ends.splice(0)) await end();
    }
  };
  await run(Object.fromEntries(Object.entries(all).map(([name, body]) => [name, ended(body)])));
}
