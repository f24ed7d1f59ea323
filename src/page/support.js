// The app support: sessions with agents.

import { Chat, Typing } from "./chat.js";
import { attempt, find, make, notes, onSubmit, short } from "./dom.js";
import { identity } from "./identity.js";
import { Link, webSocketAddress } from "./links.js";

const REST = "/api/v1/chat/sessions";

const card = find(".card.support");
const note = notes(card);
const chat = new Chat(card);
const choice = find("select", card);
/** The session that is joined. */
let joined = null;

const link = new Link({
  app: "support",
  name: "message_type",
  open: () => new WebSocket(webSocketAddress(`/api/v1/chat/ws/${joined}`, { token: identity.token })),
  opened: () => attempt(note, history),
  heard,
});

export async function start() {
  leave("looking for a session");
  await attempt(note, async () => {
    const sessions = await list();
    // So that there is something to see.
    await join(sessions[0]?.id ?? (await create()));
  });
}

/** A new token. This app's clients connect anew. */
export function renew() {
  if (joined !== null) link.start();
}

/** The sessions that are open, newest first. */
async function list() {
  const sessions = await identity.call("GET", `${REST}?status=active&limit=50`);
  choice.replaceChildren(
    ...sessions.map(({ id, title }) => make("option", { value: id, textContent: `${title} · ${id.slice(-6)}` })),
  );
  return sessions;
}

async function create() {
  const { id } = await identity.call("POST", REST, { title: `Test page ${new Date().toLocaleTimeString()}` });
  await list();
  return id;
}

async function join(id) {
  joined = id;
  choice.value = id;
  chat.clear(true);
  link.start();
}

function leave(text) {
  joined = null;
  chat.clear(false);
  find("#participants").replaceChildren();
  link.stop(text);
}

async function history() {
  const id = joined;
  const messages = await identity.call("GET", `${REST}/${id}/messages?limit=50`);
  await showParticipants();
  if (joined !== id) return;
  for (const message of messages) {
    const mark = message.read_by_count > 0 ? "read" : message.status === "delivered" ? "delivered" : "sent";
    chat.put({ id: message.id, from: message.sender_id, text: message.content, at: message.created_at, mark });
  }
  const last = messages.findLast(({ sender_id }) => sender_id !== identity.id);
  if (last) await read(last.id);
}

async function showParticipants() {
  const participants = await identity.call("GET", `${REST}/${joined}/participants`);
  find("#participants").replaceChildren(
    ...participants.map(({ user_id, role, is_active }) =>
      make("span", { title: user_id },
        make("i", { dataset: { state: is_active ? "up" : "down" } }), `${short(user_id)} (${role})`)),
  );
}

const read = (up_to_message_id) => identity.call("POST", `${REST}/${joined}/mark-read`, { up_to_message_id });

function heard({ message_type, user_id, content, timestamp, metadata }) {
  const isOwn = String(user_id) === identity.id;
  switch (message_type) {
    case "message":
      chat.put({ id: metadata.message_id, from: user_id, text: content, at: timestamp });
      if (!isOwn) attempt(note, () => read(metadata.message_id).then(() => ""));
      return;
    case "message_read":
      return chat.markUpTo(metadata.up_to_message_id, "read");
    case "typing_indicator":
      return chat.types(user_id, metadata.is_typing);
    case "user_joined":
    case "user_left":
      chat.types(user_id, false);
      return attempt(note, async () => {
        await showParticipants();
        return `${metadata.total_users} connected`;
      });
    case "session_closed":
      attempt(note, list);
      leave("the session is closed");
      return;
    case "error":
      return note(`${metadata.code}: ${metadata.message}`, true);
  }
}

onSubmit(find(".open", card), note, async (form) => {
  const id = form.get("session");
  if (form.get("act") === "create") return join(await create());
  if (!id) throw new Error("there is no open session: make a new one");
  if (form.get("act") === "join") return join(id);
  await identity.call("POST", `${REST}/${id}/close`);
  await list();
});

const typing = new Typing(find("[name=text]", chat.form), (isTyping) => {
  if (link.isUp) link.send({ message_type: "typing", content: String(isTyping) });
});

onSubmit(chat.form, note, (form, element) => {
  typing.stop();
  link.send({ message_type: "text", content: form.get("text") });
  element.reset();
});
