// The app account: what backends publish for the user.

import { Balances, clock, decimal, find, flash, make, notes, onSubmit, pushFront, showRoundTrip } from "./dom.js";
import { identity } from "./identity.js";
import { Link, webSocketAddress } from "./links.js";

/** How often clients of this app send a ping, milliseconds (`spec/account.md`). */
const PING = 15_000;

/** Notifications that are shown. */
const NOTICES = 3;

const card = find(".card.account");
const note = notes(card);
const balances = new Balances(find("#account-balances"));
const parameters = { platform: "web", version: "1.0.0", device: "browser" };
let pinged = 0;

const account = new Link({
  app: "account",
  name: "type",
  open: () => new WebSocket(webSocketAddress("/ws", { token: identity.token, ...parameters })),
  opened: ping,
  heard,
});

export function start() {
  balances.clear();
  find("#kyc").textContent = "–";
  find("#deposit").textContent = "–";
  find("#notices").replaceChildren();
  account.start();
}

/** A new token, on the same connection. */
export function renew(token) {
  if (account.isUp) account.send({ type: "authenticate", token });
  else account.start();
}

function ping() {
  if (!account.isUp) return;
  pinged = performance.now();
  account.send({ type: "ping", timestamp: new Date().toISOString() });
}
setInterval(ping, PING);

function heard({ type, data = {}, code, message }) {
  switch (type) {
    case "pong":
      return showRoundTrip(card, performance.now() - pinged);
    case "balanceUpdated":
      return balances.put(data.currency, data.balance);
    case "kycStatusChanged":
      return fact("#kyc", `${data.status}, ${clock(data.updatedAt)}`);
    case "depositStatusChanged":
      return fact("#deposit", `${decimal(data.amount)} ${data.currency ?? ""} ${data.status}`);
    case "serverNotification":
      return notice(data);
    case "error":
      return note(`${code}: ${message}`, true);
    case "tokenExpired":
      return note("The token has ended: sign in again.", true);
  }
}

function fact(selector, text) {
  const element = find(selector);
  element.textContent = text;
  flash(element, "new");
}

function notice({ title = "", message = "", severity = "info" }) {
  const item = make("li", { dataset: { severity } },
    make("strong", { textContent: title }),
    make("span", { textContent: message }));
  pushFront(find("#notices"), item, NOTICES);
}

onSubmit(find("#account-message"), note, (form, element) => {
  account.send({ type: "message", text: form.get("text"), timestamp: new Date().toISOString() });
  element.reset();
  return "Sent. Backends that listen for it get it.";
});
