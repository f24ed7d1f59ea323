// The app mobile: chat and wallet over one Socket.IO connection. Each line of standard input is a message.
//
//     node mobile.mjs RECIPIENT

import { createInterface } from "node:readline";
import { io } from "socket.io-client";
import { URL_OF_BROKER, call, print, signIn, userOf } from "./fanfare.mjs";

const recipientId = process.argv[2];
if (!recipientId) {
  console.error("usage: node mobile.mjs RECIPIENT   (the id of the other user: the sub of their token)");
  process.exit(2);
}
let { accessToken: token } = await signIn();
const userId = userOf(token);

print("history", await call("GET", `/api/chat/personal/messages?with=${recipientId}&limit=20`, { token }));
print("balance", await call("GET", "/api/wallet/balance", { token }));
print("transactions", await call("GET", "/api/wallet/transactions?limit=20", { token }));

const options = { auth: (done) => done({ token }), transports: ["websocket"] };
const [chat, wallet] = ["/chat", "/wallet"].map((namespace) => io(URL_OF_BROKER + namespace, options));
for (const socket of [chat, wallet]) {
  socket.onAny(print);
  socket.on("connect", () => socket.emit("user:register", { userId }));
  socket.on("token_expired", async () => {
    token = (await signIn()).accessToken;
    socket.emit("authenticate", { token });
  });
  socket.on("connect_error", async (error) => {
    print("connect_error", { message: error.message, ...error.data });
    if (!error.message.startsWith("401")) return;
    token = (await signIn()).accessToken;
    socket.connect();
  });
  // The clients of this app say that they are there.
  setInterval(() => socket.connected && socket.emit("heartbeat", {}), 25_000);
}

createInterface({ input: process.stdin }).on("line", async (content) => {
  const message = { recipientId, content, clientMessageId: crypto.randomUUID() };
  print("sent", await chat.emitWithAck("message:send", message));
});
