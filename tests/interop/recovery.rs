//! Connection state recovery, which client 4 knows.

use crate::market::start;
use crate::script::Script;
use crate::{CLIENTS, TRANSPORTS};

#[test]
fn a_cut_connection_comes_back_with_all_that_was_missed() {
    for shards in ["shards = 1", "shards = 3"] {
        let broker = start(&[shards]);
        for transports in TRANSPORTS {
            let parameters = [("CLIENT", CLIENTS[0]), ("TRANSPORTS", transports)];
            Script::against(&broker, "recovery.mjs", &parameters).finish();
        }
        broker.wait_for_zero();
    }
}
