//! The same events for clients of both transports, whose connections are spread over shards.

use crate::CLIENTS;
use crate::market::{start, wait_for_zero};
use crate::script::Script;

#[test]
fn polling_and_websocket_clients_on_several_shards_get_the_same_events() {
    for client in CLIENTS {
        // The clients are all in one busy process: it must not take too long to answer pings.
        let broker =
            start(&["shards = 4", "socketio.ping_interval = \"10s\"", "socketio.ping_timeout = \"20s\""]);
        let parameters = [("CLIENT", client), ("TRANSPORTS", "polling,websocket")];
        Script::against(&broker, "fanout.mjs", &parameters).finish();
        wait_for_zero(&broker);
    }
}
