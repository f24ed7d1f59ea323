// The app market: prices and trades over Socket.IO.
//
//     node market.mjs [SYMBOL …]

import { io } from "socket.io-client";
import { URL_OF_BROKER, call, print, signIn } from "./fanfare.mjs";

const symbols = process.argv.length > 2 ? process.argv.slice(2) : ["BTC-USDC", "ETH-USDC"];
let tokens = await signIn();

// `auth` is a function: every connection takes the token of that moment.
const socket = io(URL_OF_BROKER, { auth: (done) => done({ token: tokens.accessToken }), transports: ["websocket"] });

socket.onAny(print);
socket.on("connect", async () => {
  for (const symbol of symbols) {
    await socket.emitWithAck("subscribe_price", { symbol });
    await socket.emitWithAck("subscribe_trades", { pair: symbol });
  }
});
socket.on("disconnect", (reason) => print("disconnect", reason));

// A token does not last: a new one goes over the connection that is there.
async function refresh() {
  tokens = await call("POST", "/api/v1/auth/refresh", { token: tokens.refreshToken });
}
socket.on("token_expired", async () => {
  await refresh();
  socket.emit("authenticate", { token: tokens.accessToken });
});
socket.on("connect_error", async (error) => {
  print("connect_error", { message: error.message, ...error.data });
  // Without a reason of the server's it was the network, and the client comes back by itself.
  if (!error.message.startsWith("401")) return;
  await refresh().catch(async () => (tokens = await signIn()));
  socket.connect();
});
