//! The same events for clients of both transports, whose connections are spread over shards.

use crate::CLIENTS;
use crate::market::{start, wait_for_zero};
use crate::script::Script;

#[test]
fn polling_and_websocket_clients_on_several_shards_get_the_same_events() {
    for client in CLIENTS {
        let broker = start(&["shards = 4"]);
        let parameters = [("CLIENT", client), ("TRANSPORTS", "polling,websocket")];
        Script::against(&broker, "fanout.mjs", &parameters).finish();
        wait_for_zero(&broker);
    }
}
