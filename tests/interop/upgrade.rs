//! Polling clients that upgrade while much is published.

use crate::CLIENTS;
use crate::market::{start, wait_for_zero};
use crate::script::Script;

#[test]
fn an_upgrade_under_a_stream_loses_doubles_and_reorders_nothing() {
    for shards in ["shards = 1", "shards = 3"] {
        let broker = start(&[shards]);
        for client in CLIENTS {
            let parameters = [("CLIENT", client), ("TRANSPORTS", "polling,websocket")];
            Script::against(&broker, "upgrade.mjs", &parameters).finish();
        }
        wait_for_zero(&broker);
    }
}
