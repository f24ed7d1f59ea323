// Carries out the exchanges with one server, at PORT and, short of patience, at QUICK_PORT, and prints the transcripts.

import { exchanges } from "./exchanges.mjs";
import { run } from "./harness.mjs";
import { Peer } from "./peer.mjs";

const { PORT, QUICK_PORT } = process.env;

await run(
  Object.fromEntries(
    exchanges.map(([name, exchange, { quick = false, differs } = {}]) => [
      name,
      async () => {
        const peer = new Peer(Number(quick ? QUICK_PORT : PORT));
        try {
          await exchange(peer);
        } finally {
          peer.close();
        }
        return { transcript: peer.transcript, differs };
      },
    ]),
  ),
);
