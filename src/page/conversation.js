// The app conversation: one-to-one chat with receipts, typing and presence.

import { Chat, Typing } from "./chat.js";
import { attempt, find, make, notes, onSubmit, short } from "./dom.js";
import { identity } from "./identity.js";
import { Link, webSocketAddress } from "./links.js";

const REST = "/api/v1/conversations";

const card = find(".card.conversation");
const note = notes(card);
const chat = new Chat(card);
const chips = find("#conversations");
/** What a chip shows of a conversation: `{partner, name, unread, isOnline}`, by its id. Who is online is told when it
 * changes, so that it may not be known. */
const known = new Map();
/** The one that is open. */
let open = null;

const link = new Link({
  app: "conversation",
  name: "event",
  open: () => new WebSocket(webSocketAddress("/ws"), ["fanfare.bearer", identity.token]),
  opened: () => attempt(note, list),
  heard: ({ event, data }) => heard(event, data),
});

export function start() {
  known.clear();
  choose(null);
  link.start();
}

/** A new token, on the same connection. */
export function renew(token) {
  if (link.isUp) link.send({ event: "authenticate", data: { token } });
  else link.start();
}

const say = (event, data) => link.send({ event, data: { conversation_id: open, ...data } });

/** The conversations there are; the one that was open is joined again. */
async function list() {
  const { conversations } = await identity.call("GET", `${REST}?limit=20`);
  for (const { id, participants, unread_count } of conversations) put(id, { ...partner(participants), unread: unread_count });
  if (open !== null) await show(open);
}

function partner(participants) {
  const other = participants.find(({ id }) => String(id) !== identity.id) ?? participants[0];
  return { partner: String(other.id), name: other.username };
}

function put(id, change) {
  known.set(id, { unread: 0, ...known.get(id), ...change });
  draw();
}

function draw() {
  chips.replaceChildren(
    ...[...known].map(([id, { partner, name, unread, isOnline }]) => {
      const chip = make("button", { type: "button", title: partner, ariaPressed: String(id === open) });
      if (isOnline !== undefined) {
        const [state, title] = isOnline ? ["up", "online"] : ["down", "offline"];
        chip.append(make("i", { dataset: { state }, title }));
      }
      chip.append(name ?? short(partner));
      if (unread > 0) chip.append(make("b", { textContent: unread, title: `${unread} unread` }));
      chip.addEventListener("click", () => attempt(note, () => show(id)));
      return chip;
    }),
  );
}

function choose(id) {
  open = id;
  chat.clear(id !== null);
  draw();
}

/** Opens a conversation: joins it, and shows its history. */
async function show(id) {
  if (open !== null && open !== id) say("conversation:leave", {});
  choose(id);
  say("conversation:join", {});
  const { messages } = await identity.call("GET", `${REST}/${id}/messages?limit=50`);
  if (open !== id) return;
  for (const message of messages.reverse()) putMessage(message);
  const last = messages.findLast(({ sender_id }) => String(sender_id) !== identity.id);
  if (last) read(last.id);
}

function putMessage({ id, sender_id, content, type, created_at, is_read }) {
  const text = type === "text" ? content : `[${type}] ${content ?? ""}`;
  chat.put({ id, from: sender_id ?? "system", text, at: created_at, mark: is_read ? "read" : "sent" });
}

function read(message_id) {
  say("message:read", { message_id });
  put(open, { unread: 0 });
}

function heard(event, data) {
  const isOpen = data?.conversation_id === open || data?.message?.conversation_id === open;
  switch (event) {
    case "message:new": {
      const { message, sender } = data;
      const isOwn = String(message.sender_id) === identity.id;
      if (!isOwn) put(message.conversation_id, { partner: String(message.sender_id), name: sender?.username });
      if (!isOpen) return;
      putMessage(message);
      if (!isOwn) read(message.id);
      return;
    }
    case "message:delivered":
      return chat.mark(data.message_id, "delivered");
    case "message:viewed":
      return chat.markUpTo(data.message_id, "read");
    case "message:deleted":
      return chat.remove(data.message_id);
    case "typing:indicator":
      return isOpen && String(data.user_id) !== identity.id && chat.types(data.user_id, data.is_typing);
    case "conversation:unread":
      return put(data.conversation_id, {
        unread: data.unread_count,
        ...(known.has(data.conversation_id) ? {} : { partner: String(data.last_message?.sender_id ?? "?") }),
      });
    case "user:online":
    case "user:offline":
      return comes(String(data.user_id), event === "user:online");
    case "error":
      return note(`${data.code}: ${data.message}`, true);
    case "token_expired":
      return note("The token has ended: sign in again.", true);
  }
}

function comes(user, isOnline) {
  for (const [id, { partner }] of known) if (partner === user) put(id, { isOnline });
}

/** Opens the conversation with a user, which is made if there is none. */
export async function openWith(participant_id) {
  const { id, participants } = await identity.call("POST", REST, { participant_id });
  put(id, partner(participants));
  await show(id);
}

onSubmit(find(".open", card), note, (form) => openWith(form.get("partner").trim()));

const typing = new Typing(find("[name=text]", chat.form), (isTyping) => {
  if (open !== null && link.isUp) say(isTyping ? "typing:start" : "typing:stop", {});
});

onSubmit(chat.form, note, (form, element) => {
  typing.stop();
  say("message:send", { content: form.get("text"), type: "text", client_message_id: crypto.randomUUID?.() });
  element.reset();
});
