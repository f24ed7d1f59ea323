// The app support: the live side of a session. Each line of standard input is a message.
//
//     node support.mjs [SESSION]        without SESSION: a new one

import { createInterface } from "node:readline";
import WebSocket from "ws";
import { call, keepOpen, print, signIn, webSocketUrl } from "./fanfare.mjs";

/** Policy violation: the token is bad, there is no such session, or it is somebody else's. */
const POLICY_VIOLATION = 1008;

let session = process.argv[2];
if (!session) {
  const { accessToken: token } = await signIn();
  const body = { title: "Support Chat", assigned_agent_id: null };
  const made = await call("POST", "/api/v1/chat/sessions", { token, body });
  print("session", made);
  session = made.id;
}

const connect = async () => {
  const { accessToken } = await signIn();
  return new WebSocket(webSocketUrl(`/api/v1/chat/ws/${session}?token=${accessToken}`));
};
const onMessage = ({ message_type, ...message }) => {
  print(message_type, message);
  if (message_type === "session_closed") process.exit(0);
};
const send = keepOpen(connect, onMessage, (code) => code === POLICY_VIOLATION);

createInterface({ input: process.stdin }).on("line", (content) => {
  send({ message_type: "typing", content: "false" });
  send({ message_type: "text", content });
});
