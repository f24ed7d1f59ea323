//! Connection state recovery, which client 4 knows.

use crate::market::{start, wait_for_zero};
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
        wait_for_zero(&broker);
    }
}

#[test]
fn state_is_kept_for_so_long_and_no_longer() {
    let times = ["recovery", "ping_interval", "ping_timeout"];
    let times = times.map(|name| format!("socketio.{name} = \"500ms\""));
    let broker = start(&times.each_ref().map(String::as_str));
    for transports in TRANSPORTS {
        let only = [("ONLY", "longer than the state is kept"), ("KEPT", "500")];
        let parameters = [[("CLIENT", CLIENTS[0]), ("TRANSPORTS", transports)], only].concat();
        Script::against(&broker, "recovery.mjs", &parameters).finish();
    }
    wait_for_zero(&broker);
    broker.wait_for_metric("fanfare_recoverable_sessions", &[], 0.0);
    broker.wait_for_metric("fanfare_history_bytes", &[], 0.0);
}
