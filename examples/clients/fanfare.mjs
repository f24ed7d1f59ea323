// What the clients have in common: signing in, calls over HTTP, and a WebSocket that comes back.

import WebSocket from "ws";

export const URL_OF_BROKER = process.env.BROKER_URL ?? "http://127.0.0.1:8080";

/** Calls the broker over HTTP; returns what it answers. An answer that is an error is thrown. */
export async function call(method, path, { token, body } = {}) {
  const response = await fetch(URL_OF_BROKER + path, {
    method,
    headers: {
      ...(token && { Authorization: `Bearer ${token}` }),
      ...(body && { "Content-Type": "application/json" }),
    },
    body: body && JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

/** Signs in; returns the access token and the refresh token. */
export function signIn() {
  const email = process.env.EMAIL ?? "user@example.com";
  const password = process.env.PASSWORD ?? "password123";
  return call("POST", "/api/v1/auth/login", { body: { email, password } });
}

/** Who a token is for. It is the broker that verifies it; a client only reads it. */
export function userOf(token) {
  return JSON.parse(Buffer.from(token.split(".")[1], "base64url")).sub;
}

/** Prints what has come. */
export function print(name, data) {
  console.log(name, JSON.stringify(data ?? null));
}

/**
 * A WebSocket that comes back: after 1 s, 2 s, 4 s …, at most 30 s, each with some chance in it, so that not all clients
 * come at the same moment. `connect` makes the next one; `onMessage` gets each message; `isFinal` says of a close code
 * whether to give up. Returns a function that sends.
 */
export function keepOpen(connect, onMessage, isFinal = () => false) {
  let socket;
  let failures = 0;
  const open = async () => {
    const again = () => setTimeout(open, Math.min(30_000, 1_000 * 2 ** failures++) * (0.5 + Math.random() / 2));
    try {
      socket = await connect();
    } catch (error) {
      print("error", error.message);
      again();
      return;
    }
    socket.on("open", () => (failures = 0));
    socket.on("message", (text) => onMessage(JSON.parse(text)));
    socket.on("error", (error) => print("error", error.message));
    socket.on("close", (code, reason) => {
      print("closed", { code, reason: reason.toString() });
      if (isFinal(code)) process.exit(1);
      again();
    });
  };
  open();
  return (message) => {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
    else print("error", "not connected: try again");
  };
}

/** The broker's address for a WebSocket. */
export const webSocketUrl = (path) => URL_OF_BROKER.replace(/^http/, "ws") + path;
