// The app conversation: one-to-one chat. Each line of standard input is a message.
//
//     node conversation.mjs PARTNER

import { createInterface } from "node:readline";
import WebSocket from "ws";
import { call, keepOpen, print, signIn, webSocketUrl } from "./fanfare.mjs";

const partner = process.argv[2];
if (!partner) {
  console.error("usage: node conversation.mjs PARTNER   (the id of the other user: the sub of their token)");
  process.exit(2);
}
const { accessToken: token } = await signIn();
const conversation = await call("POST", "/api/v1/conversations", { token, body: { participant_id: partner } });
const here = { conversation_id: conversation.id };

const { messages } = await call("GET", `/api/v1/conversations/${conversation.id}/messages?limit=20`, { token });
for (const message of messages.reverse()) print("history", message);

// A token lasts a quarter of an hour: each connection signs in again.
const connect = async () => {
  const { accessToken } = await signIn();
  return new WebSocket(webSocketUrl("/ws"), { headers: { Authorization: `Bearer ${accessToken}` } });
};
const send = keepOpen(connect, ({ event, data }) => {
  print(event, data);
  if (event === "connection:established") send({ event: "conversation:join", data: here });
  if (event === "message:new" && data.message.sender_id === partner) {
    send({ event: "message:read", data: { ...here, message_id: data.message.id } });
  }
});

// The name makes a message that is sent again, because its answer was lost, the same message.
createInterface({ input: process.stdin }).on("line", (content) => {
  const data = { ...here, content, type: "text", client_message_id: crypto.randomUUID() };
  send({ event: "message:send", data });
});
