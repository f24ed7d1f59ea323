// The test page in Chromium, which reaches nothing but the broker: whatever else a page asks for is refused, and is a failure.
//
//   CHROMIUM      the browser's program
//   SCREENSHOTS   the folder for pictures

import assert from "node:assert/strict";
import path from "node:path";

import { Publisher, address, require, run, token, user } from "./harness.mjs";

const { chromium } = require("playwright-core");
const { CHROMIUM, SCREENSHOTS } = process.env;

const origin = `http://${address.host}:${address.port}`;
const PAIRS = ["BTC-USDC", "ETH-USDC", "SOL-USDC", "LINK-USDC", "DOGE-USDC"];
const OPEN = [61_837.63, 2_682.1, 153.42, 10.427, 0.10215];

/** Connections that the page shows. */
const DOTS = ["market", "account", "conversation", "support", "chat", "wallet"];

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  // Names are not even looked up.
  args: ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-proxy-server"],
});
const publisher = await Publisher.connect();

/** What a scenario has to end, however it ended itself. */
const ends = [];

/** A window of its own, with all that went wrong in it. */
class Window {
  static async open({ as, query = "", ...options } = {}) {
    const window = new Window();
    window.faults = [];
    const context = await browser.newContext({ viewport: { width: 1440, height: 1000 }, locale: "en-GB", ...options });
    window.context = context;
    ends.push(() => context.close());
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
    const search = as ? `?as=${encodeURIComponent(as)}` : query;
    await page.goto(`${origin}/websocket_test${search}`);
    return window;
  }

  /** Waits until every connection is in a state; returns who has signed in. */
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
    return page.textContent("#user-id");
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
function market() {
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
async function tell(user, event, data) {
  assert.ok((await publisher.publish({ user, event, data })) > 0, event);
}

/** Publishes the market until the scenario ends. */
function live() {
  const timer = setInterval(market, 200);
  ends.push(() => clearInterval(timer));
}

const scenarios = {
  async "all five apps, live"() {
    const window = await Window.open();
    const { page } = window;
    const ada = await window.settled();
    await window.has("#summary", "6 of 6 connections up");
    const agent = await Window.open({ as: "agent@example.com" });
    const bob = await agent.settled();
    assert.notEqual(ada, bob);
    live();

    // Prices: all pairs, and they change.
    for (const pair of PAIRS) await window.has("#prices tbody th", pair);
    const price = () => page.textContent("#prices [data-symbol=BTC-USDC] td");
    const before = await price();
    await page.waitForFunction(
      (before) => document.querySelector("#prices [data-symbol=BTC-USDC] td").textContent !== before,
      before,
    );
    await page.locator("#prices td.up, #prices td.down").first().waitFor();
    await page.locator("#book .ask").nth(4).waitFor();
    await page.click("#prices [data-symbol=ETH-USDC] button");
    await window.has("#pair", "ETH-USDC");
    await page.locator("#trades li").nth(2).waitFor();
    await tell(ada, "portfolio_update", { totalValue: 48_211.07, pnl: 312.4, timestamp: new Date().toISOString() });
    await window.has("#portfolio", "48,211.07");

    // Account.
    const updatedAt = new Date().toISOString();
    const balance = { currency: "BTC", balance: 0.05432, previous: 0.05, updatedAt };
    await tell(ada, "balanceUpdated", balance);
    await tell(ada, "balanceUpdated", { ...balance, currency: "USDC", balance: 1_250.5 });
    await tell(ada, "kycStatusChanged", { status: "approved", updatedAt });
    await tell(ada, "depositStatusChanged", { depositId: "d1", status: "confirmed", amount: 250, currency: "USDC", updatedAt });
    await publisher.publish({
      broadcast: true,
      event: "serverNotification",
      data: { title: "Maintenance", message: "tonight at 22:00", severity: "info", timestamp: updatedAt },
    });
    await window.has("#account-balances", "0.05432");
    await window.has("#kyc", "approved");
    await window.has("#notices", "tonight at 22:00");

    // Conversation: opened with who is suggested, typed, sent, seen, read.
    assert.equal(await page.inputValue(".conversation [name=partner]"), bob);
    await page.click(".conversation .open button");
    await page.locator(".conversation .send input:enabled").waitFor();
    await page.fill(".conversation .send input", "Hello agent, do you");
    await window.say("conversation", "Hello agent, do you read me?");
    await window.has(".conversation .chat .own", "do you read me?");
    await agent.page.click("#conversations button");
    await agent.has(".conversation .chat .other", "do you read me?");
    await page.locator(".conversation .own .tick[data-mark=read]").waitFor();
    await agent.page.fill(".conversation .send input", "Loud and");
    await window.has(".conversation .typing", "is typing");
    await agent.say("conversation", "Loud and clear.");
    await window.has(".conversation .chat .other", "Loud and clear.");

    // Support: the agent joins the session that the page has made.
    await agent.page.reload();
    await agent.settled();
    const session = await page.inputValue(".support select");
    await agent.page.selectOption(".support select", session);
    await agent.page.click(".support [value=join]");
    await window.has("#participants", "(agent)");
    await window.say("support", "My card was declined.");
    await agent.has(".support .chat .other", "My card was declined.");
    await page.locator(".support .own .tick[data-mark=read]").waitFor();
    await agent.page.fill(".support .send input", "Let me");
    await window.has(".support .typing", "is typing");
    await agent.say("support", "Let me have a look.");
    await window.has(".support .chat .other", "Let me have a look.");

    // Mobile: a message and its history, the wallet told and fetched.
    await page.click(".mobile .open button");
    await page.locator(".mobile .send input:enabled").waitFor();
    await window.say("mobile", "Dinner at eight?");
    await window.has(".mobile .chat .own", "Dinner at eight?");
    await agent.has(".mobile .chat .other", "Dinner at eight?");
    await agent.say("mobile", "With pleasure.");
    await window.has(".mobile .chat .other", "With pleasure.");
    await page.click(".mobile .open button");
    await window.has(".mobile .note", "2 messages of the history");
    await tell(ada, "balance:updated", { currency: "USDC", balance: 980.25 });
    await window.has("#wallet-balances", "980.25");
    const transaction = { currency: "USDC", createdAt: new Date().toISOString() };
    await tell(ada, "transaction:added", { ...transaction, id: "t1", amount: -24.9, type: "payment" });
    await tell(ada, "transaction:added", { ...transaction, id: "t2", amount: 1_000, type: "deposit" });
    await page.click("#fetch-transactions");
    await window.has("#transactions", "1,000.00 USDC");
    await page.click("#fetch-balance");
    await window.has(".mobile .note", "1 balances");
    await page.fill(".register [name=id]", bob);
    await page.click(".register button");
    await window.has(".mobile .note.error", "ACCESS_DENIED");
    await page.fill(".register [name=id]", ada);
    await page.click(".register button");
    await window.has(".mobile .note", "Registered");

    // All of it is in the list, which is bounded.
    for (const app of ["market", "account", "conversation", "support", "mobile"]) {
      await page.uncheck("#filter [name=market]");
      if (app === "market") await page.check("#filter [name=market]");
      await page.evaluate(() => document.querySelector("#filter [name=clear]").click());
      if (app === "account") await tell(ada, "balanceUpdated", balance);
      if (app === "conversation") await window.say("conversation", "And once more.");
      if (app === "support") await window.say("support", "Thank you.");
      if (app === "mobile") await tell(ada, "balance:updated", { currency: "BTC", balance: 0.75 });
      await page.locator(`#events [data-app=${app}]`).first().waitFor();
    }
    await page.check("#filter [name=market]");
    await page.waitForFunction(() => document.querySelectorAll("#events > li").length === 200);
    for (let n = 0; n < 10; n++) market();
    await page.waitForFunction(() => document.querySelectorAll("#events > li").length === 200);

    await window.settled();
    await agent.close();
    const screenshot = await window.picture("page");
    await window.close();
    return { screenshot };
  },

  async "in the dark"() {
    live();
    const window = await Window.open({ colorScheme: "dark" });
    await window.settled();
    await window.page.locator("#book .ask").nth(4).waitFor();
    const screenshot = await window.picture("dark");
    await window.close();
    return { screenshot };
  },

  async "on a phone nothing is cut off"() {
    live();
    const viewport = { width: 360, height: 740 };
    const window = await Window.open({ viewport, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
    await window.settled();
    await window.page.locator("#book .ask").nth(4).waitFor();
    const wide = await window.page.evaluate(() => {
      const width = document.documentElement.clientWidth;
      const elements = [...document.querySelectorAll("body *")].filter((element) => !element.closest("#events"));
      const out = elements.filter((element) => element.getBoundingClientRect().right > width + 1);
      return { width, content: document.documentElement.scrollWidth, out: out.map((element) => element.outerHTML.slice(0, 80)) };
    });
    assert.deepEqual(wide, { width: viewport.width, content: viewport.width, out: [] });
    const screenshot = await window.picture("phone");
    await window.close();
    return { screenshot };
  },

  async "any user with a token, sent away and back"() {
    const window = await Window.open();
    await window.settled();
    const name = user("ada");
    await window.page.fill("#sign-in [name=user]", token(name));
    await window.page.click("#sign-in button");
    await window.has("#user-id", name);
    assert.equal(await window.settled(), name);
    const line = { op: "disconnect", user: name, code: 4001, reason: "account locked" };
    assert.equal((await publisher.ask(line)).ok, true);
    await window.settled("down");
    await window.has("[data-status=account]", "account locked");
    await window.has("#summary", "0 of 6 connections up");
    await window.page.click("#sign-in button");
    await window.settled();
    // What is wrong is said, and the browser says that it was refused.
    await window.page.fill("#sign-in [name=user]", "user@example.com");
    await window.page.fill("#sign-in [name=password]", "not this one");
    await window.page.click("#sign-in button");
    await window.has("#summary", "the address or the password is wrong");
    const refused = window.faults.splice(0);
    assert.equal(refused.length, 2, refused.join("\n"));
    assert.ok(refused.every((fault) => fault.includes("401")), refused.join("\n"));
    await window.close();
  },
};

await run(
  Object.fromEntries(
    Object.entries(scenarios).map(([name, body]) => [
      name,
      async () => {
        try {
          return await body();
        } finally {
          for (const end of ends.splice(0)) await end();
        }
      },
    ]),
  ),
);
