// What a person does on the test page, app by app; how it looks in the dark and on a phone; and what it says when it is sent
// away.

import assert from "node:assert/strict";

import { PAIRS, Window, live, market, publisher, scenarios, tell } from "./browser.mjs";
import { token, user } from "./harness.mjs";

const now = () => new Date().toISOString();

/** Two people whose windows the first scenarios share. */
let ada;
let bob;

await scenarios({
  async "all connections come up"() {
    ada = await Window.open({ keep: true });
    await ada.settled();
    await ada.has("#summary", "6 of 6 connections up");
    bob = await Window.open({ keep: true, as: "agent@example.com" });
    await bob.settled();
    assert.notEqual(ada.user, bob.user);
  },

  async "market: prices change"() {
    live();
    const { page } = ada;
    for (const pair of PAIRS) await ada.has("#prices tbody th", pair);
    const selector = "#prices [data-symbol=BTC-USDC] td";
    const before = await page.textContent(selector);
    await page.waitForFunction(
      ([selector, before]) => document.querySelector(selector).textContent !== before,
      [selector, before],
    );
    await page.locator("#prices td.up, #prices td.down").first().waitFor();
    await page.locator("#book .ask").nth(4).waitFor();
    await page.click("#prices [data-symbol=ETH-USDC] button");
    await ada.has("#pair", "ETH-USDC");
    await page.locator("#trades li").nth(2).waitFor();
    await tell(ada.user, "portfolio_update", { totalValue: 48_211.07, pnl: 312.4, timestamp: now() });
    await ada.has("#portfolio", "48,211.07");
  },

  async "account: what backends say"() {
    const balance = { currency: "BTC", balance: 0.05432, previous: 0.05, updatedAt: now() };
    const deposit = { depositId: "d1", status: "confirmed", amount: 250, currency: "USDC", updatedAt: now() };
    await tell(ada.user, "balanceUpdated", balance);
    await tell(ada.user, "balanceUpdated", { ...balance, currency: "USDC", balance: 1_250.5 });
    await tell(ada.user, "kycStatusChanged", { status: "approved", updatedAt: now() });
    await tell(ada.user, "depositStatusChanged", deposit);
    const data = { title: "Maintenance", message: "tonight at 22:00", severity: "info", timestamp: now() };
    await publisher.publish({ broadcast: true, event: "serverNotification", data });
    await ada.has("#account-balances", "0.05432");
    await ada.has("#account-balances", "1,250.50");
    await ada.has("#kyc", "approved");
    await ada.has("#deposit", "confirmed");
    await ada.has("#notices", "tonight at 22:00");
  },

  async "conversation: typed, sent, seen"() {
    const { page } = ada;
    assert.equal(await page.inputValue(".conversation [name=partner]"), bob.user);
    await page.click(".conversation .open button");
    await ada.say("conversation", "Hello agent, do you read me?");
    await ada.has(".conversation .chat .own", "do you read me?");
    await bob.page.click("#conversations button");
    await bob.has(".conversation .chat .other", "do you read me?");
    await page.locator(".conversation .own .tick[data-mark=read]").waitFor();
    await bob.page.fill(".conversation .send input", "Loud and");
    await ada.has(".conversation .typing", "is typing");
    await bob.say("conversation", "Loud and clear.");
    await ada.has(".conversation .chat .other", "Loud and clear.");
  },

  async "support: an agent joins"() {
    const { page } = ada;
    // The session is there when the agent looks for one.
    await bob.page.reload();
    await bob.settled();
    await bob.page.selectOption(".support select", await page.inputValue(".support select"));
    await bob.page.click(".support [value=join]");
    await ada.has("#participants", "(agent)");
    await ada.say("support", "My card was declined.");
    await bob.has(".support .chat .other", "My card was declined.");
    await page.locator(".support .own .tick[data-mark=read]").waitFor();
    await bob.page.fill(".support .send input", "Let me");
    await ada.has(".support .typing", "is typing");
    await bob.say("support", "Let me have a look.");
    await ada.has(".support .chat .other", "Let me have a look.");
  },

  async "mobile: messages and their history"() {
    const { page } = ada;
    await page.click(".mobile .open button");
    await ada.say("mobile", "Dinner at eight?");
    await ada.has(".mobile .chat .own", "Dinner at eight?");
    await bob.has(".mobile .chat .other", "Dinner at eight?");
    await bob.say("mobile", "With pleasure.");
    await ada.has(".mobile .chat .other", "With pleasure.");
    await page.click(".mobile .open button");
    await ada.has(".mobile .note", "2 messages of the history");
    await page.fill(".register [name=id]", bob.user);
    await page.click(".register button");
    await ada.has(".mobile .note.error", "ACCESS_DENIED");
    await page.fill(".register [name=id]", ada.user);
    await page.click(".register button");
    await ada.has(".mobile .note", "Registered");
  },

  async "mobile: a wallet"() {
    const { page } = ada;
    await tell(ada.user, "balance:updated", { currency: "USDC", balance: 980.25 });
    await ada.has("#wallet-balances", "980.25");
    const transaction = { currency: "USDC", createdAt: now() };
    await tell(ada.user, "transaction:added", { ...transaction, id: "t1", amount: -24.9, type: "payment" });
    await tell(ada.user, "transaction:added", { ...transaction, id: "t2", amount: 1_000, type: "deposit" });
    await page.click("#fetch-transactions");
    await ada.has("#transactions", "1,000.00 USDC");
    await page.click("#fetch-balance");
    await ada.has(".mobile .note", "1 balances");
  },

  async "all that arrives is listed, and the list is bounded"() {
    const { page } = ada;
    await page.uncheck("#filter [name=market]");
    await page.click("#filter [name=clear]");
    await tell(ada.user, "balanceUpdated", { currency: "BTC", balance: 0.05432 });
    await ada.say("conversation", "And once more.");
    await ada.say("support", "Thank you.");
    await tell(ada.user, "balance:updated", { currency: "BTC", balance: 0.75 });
    for (const app of ["account", "conversation", "support", "mobile"]) {
      await page.locator(`#events [data-app=${app}]`).first().waitFor();
    }
    await page.check("#filter [name=market]");
    live();
    await page.locator("#events [data-app=market]").first().waitFor();
    const rows = (count) =>
      page.waitForFunction((count) => document.querySelectorAll("#events > li").length === count, count);
    await rows(200);
    for (let n = 0; n < 10; n++) market();
    await rows(200);
  },

  async "a picture of all of it"() {
    live();
    await ada.settled();
    const screenshot = await ada.picture("page");
    await bob.close();
    await ada.close();
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
    await window.settled();
    assert.equal(window.user, name);
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
});
