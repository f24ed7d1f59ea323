//! The app market as each client sees it, on each transport.

use crate::script::Script;
use crate::support::Broker;
use crate::{CLIENTS, TRANSPORTS};

/// The scenarios ask more than a person would, and what they leave behind is to be gone soon.
pub const SETTINGS: [&str; 3] =
    ["limits.control = \"off\"", "socketio.ping_interval = \"4s\"", "socketio.ping_timeout = \"4s\""];

/// A broker for scenarios, with further settings.
pub fn start(settings: &[&str]) -> Broker {
    Broker::start(&[&SETTINGS, settings].concat())
}

/// Waits until nothing is left of the clients.
#[track_caller]
pub fn wait_for_zero(broker: &Broker) {
    broker.wait_for_zero();
    broker.wait_for_metric("fanfare_engineio_sessions", &[], 0.0);
    broker.wait_for_metric("fanfare_users_online", &[], 0.0);
}

fn scenarios(transports: &str) {
    let broker = start(&[]);
    for client in CLIENTS {
        let parameters = [("CLIENT", client), ("TRANSPORTS", transports)];
        Script::against(&broker, "market.mjs", &parameters).finish();
    }
    wait_for_zero(&broker);
}

#[test]
fn market_over_websocket() {
    scenarios(TRANSPORTS[0]);
}

#[test]
fn market_over_polling() {
    scenarios(TRANSPORTS[1]);
}

#[test]
fn market_over_polling_that_upgrades() {
    scenarios(TRANSPORTS[2]);
}

#[test]
fn market_with_python_socketio() {
    let broker = start(&[]);
    for transports in TRANSPORTS {
        Script::against(&broker, "python_client.py", &[("TRANSPORTS", transports)]).finish();
    }
    wait_for_zero(&broker);
}
