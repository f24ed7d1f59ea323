//! The app mobile as each client sees it, on each transport.

use crate::market::{start, wait_for_zero};
use crate::script::Script;
use crate::{CLIENTS, TRANSPORTS};

#[test]
fn chat_and_wallet() {
    for shards in ["shards = 1", "shards = 3"] {
        let broker = start(&[shards]);
        for client in CLIENTS {
            for transports in TRANSPORTS {
                let parameters = [("CLIENT", client), ("TRANSPORTS", transports)];
                Script::against(&broker, "mobile.mjs", &parameters).finish();
            }
        }
        wait_for_zero(&broker);
    }
}
