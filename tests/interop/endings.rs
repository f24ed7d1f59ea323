//! How connections end and go on: a backend's disconnect, the drain, heartbeats.

use std::thread;

use rustix::process::Signal;

use crate::market::{start, wait_for_zero};
use crate::script::{Parameters, Script};
use crate::{CLIENTS, TRANSPORTS};

/// Runs `test` for each client on each transport, side by side: most of it is waiting.
fn each_client(test: impl Fn(Parameters<'_>) + Sync) {
    thread::scope(|scope| {
        for client in CLIENTS {
            for transports in TRANSPORTS {
                let test = &test;
                scope.spawn(move || test(&[("CLIENT", client), ("TRANSPORTS", transports)]));
            }
        }
    });
}

#[test]
fn a_backends_disconnect_is_for_good() {
    let broker = start(&[]);
    each_client(|parameters| {
        let only = [parameters, &[("ONLY", "a backend's disconnect is for good")]].concat();
        Script::against(&broker, "endings.mjs", &only).finish();
    });
    wait_for_zero(&broker);
}

#[test]
fn clients_come_back_after_a_drain() {
    each_client(|parameters| {
        let mut broker = start(&[]);
        let only = [parameters, &[("ONLY", "clients of a broker that ends come back to the next")]].concat();
        let mut script = Script::against(&broker, "endings.mjs", &only);
        script.expect("connected");
        broker.signal(Signal::TERM);
        script.expect("disconnected");
        assert_eq!(broker.wait().code(), Some(0));
        let next = start(&[&format!("listen = [\"{}\"]", broker.public)]);
        script.say("started");
        script.finish();
        wait_for_zero(&next);
    });
}

#[test]
fn heartbeats_tell_the_quiet_from_the_gone() {
    let broker = start(&["socketio.ping_interval = \"500ms\"", "socketio.ping_timeout = \"1500ms\""]);
    each_client(|parameters| {
        let names = "heartbeats keep a quiet client,a client that has gone silent is let go on both sides";
        Script::against(&broker, "endings.mjs", &[parameters, &[("ONLY", names)]].concat()).finish();
    });
    wait_for_zero(&broker);
}
