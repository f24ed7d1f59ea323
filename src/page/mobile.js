// The app mobile: personal messages in the namespace /chat, the wallet in /wallet, and what HTTP says of both.

import { Chat, Typing } from "./chat.js";
import { Balances, attempt, clock, decimal, find, make, notes, onSubmit } from "./dom.js";
import { identity } from "./identity.js";
import { Namespace } from "./links.js";

/** How often the connections are tried, milliseconds. */
const HEARTBEAT = 15_000;

/** Transactions that are shown. */
const TRANSACTIONS = 5;

const card = find(".card.mobile");
const note = notes(card);
const chat = new Chat(card);
const balances = new Balances(find("#wallet-balances"));
const to = find(".open [name=partner]", card);
const userId = find(".register [name=id]", card);
/** The user whose messages are shown. */
let partner = null;

const personal = new Namespace({ namespace: "/chat", app: "mobile", dot: "chat", opened: register(() => personal) });
const wallet = new Namespace({ namespace: "/wallet", app: "mobile", dot: "wallet", opened: register(() => wallet) });
const both = [personal, wallet];

export function start() {
  userId.value = identity.id;
  partner = null;
  chat.clear(false);
  balances.clear();
  find("#transactions").replaceChildren();
  for (const namespace of both) namespace.start();
}

/** A new token, on the same connections. */
export function renew(token) {
  for (const namespace of both) namespace.tell("authenticate", { token });
}

/** As the app does once it is connected. */
function register(namespace) {
  return () =>
    attempt(note, async () => {
      await namespace().ask("user:register", { userId: identity.id });
      if (namespace() === wallet) return fetchBalance();
      if (partner !== null) await openWith(partner);
    });
}

setInterval(() => {
  for (const namespace of both) namespace.tell("heartbeat", {});
}, HEARTBEAT);

/** Shows what was said with a user. */
export async function openWith(user) {
  partner = user;
  to.value = user;
  chat.clear(true);
  await personal.ask("room:join", { roomId: user });
  const { messages } = await identity.call("GET", `/api/chat/personal/messages?with=${encodeURIComponent(user)}&limit=50`);
  for (const message of messages.reverse()) put(message);
  return `${messages.length} messages of the history`;
}

function put({ id, senderId, recipientId, content, mediaUrl, createdAt }) {
  if (String(senderId) !== partner && String(recipientId) !== partner) return;
  chat.put({ id, from: senderId, text: mediaUrl ? `${content} [${mediaUrl}]` : content, at: createdAt });
}

function received(message) {
  const other = String(message.senderId);
  // Who is written to by somebody, and has nobody open yet.
  if (partner === null && other !== identity.id) return attempt(note, () => openWith(other));
  put(message);
}

personal.on("message:received", received);
personal.on("media:received", received);
personal.on("typing:start", ({ userId: user }) => String(user) === partner && chat.types(user, true));
personal.on("typing:stop", ({ userId: user }) => chat.types(user, false));
for (const namespace of both) namespace.on("message:error", ({ code, message }) => note(`${code}: ${message}`, true));

wallet.on("balance:updated", ({ currency, balance }) => balances.put(currency, balance));
wallet.on("transaction:added", () => attempt(note, fetchTransactions));
wallet.on("payment:notification", ({ message, title }) => note(message ?? title ?? "A payment has been made."));

async function fetchBalance() {
  const { balances: all } = await identity.call("GET", "/api/wallet/balance");
  for (const { currency, balance } of all) balances.put(currency, balance);
  return all.length > 0 ? `${all.length} balances` : "No balance yet: publish balance:updated for the user.";
}

async function fetchTransactions() {
  const path = `/api/wallet/transactions?limit=${TRANSACTIONS}`;
  const { transactions } = await identity.call("GET", path);
  find("#transactions").replaceChildren(
    ...transactions.map((transaction) =>
      make("li", { title: JSON.stringify(transaction) },
        make("span", { textContent: `${decimal(transaction.amount)} ${transaction.currency ?? ""}` }),
        make("span", { textContent: transaction.type ?? transaction.id }),
        make("time", { textContent: transaction.createdAt ? clock(transaction.createdAt) : "" }))),
  );
  return `${transactions.length} transactions, newest first`;
}

onSubmit(find(".register", card), note, async () => {
  // Both say so if it is another user than the token's.
  await Promise.all(both.map((namespace) => namespace.ask("user:register", { userId: userId.value.trim() })));
  return "Registered.";
});
onSubmit(find(".open", card), note, () => openWith(to.value.trim()));
find("#fetch-balance").addEventListener("click", () => attempt(note, fetchBalance));
find("#fetch-transactions").addEventListener("click", () => attempt(note, fetchTransactions));

const typing = new Typing(find("[name=text]", chat.form), (isTyping) => {
  if (partner !== null) personal.tell(isTyping ? "typing:start" : "typing:stop", { recipientId: partner });
});

onSubmit(chat.form, note, async (form, element) => {
  typing.stop();
  const clientMessageId = crypto.randomUUID?.();
  const message = { recipientId: partner, content: form.get("text"), clientMessageId };
  element.reset();
  put(await personal.ask("message:send", message));
});
