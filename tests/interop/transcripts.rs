//! Raw exchanges, carried out with the reference server and with fanfare: the same must come of them.
//!
//! The table of exchanges is `scripts/exchanges.mjs`. One that says it `differs` must differ, so that the table stays
//! true.

use std::collections::BTreeMap;
use std::thread;

use serde_json::{Value, json};

use crate::script::Script;
use crate::support::Broker;

/// What came of each exchange.
type Transcripts = BTreeMap<String, Value>;

/// The settings of both servers; the second one of each is short of patience.
const SETTINGS: [&str; 2] =
    ["allowed_origins = [\"http://client.test\"]", "limits.connections_per_user = 1000"];
const QUICK: [&str; 3] = [
    "socketio.connect_timeout = \"400ms\"",
    "socketio.ping_interval = \"300ms\"",
    "socketio.ping_timeout = \"1s\"",
];

/// Starts the reference server; returns it with its port.
fn reference(quick: bool) -> (Script, String) {
    let mut settings = json!({
        "maxHttpBufferSize": 32_768,
        "cors": { "origin": ["http://client.test"], "credentials": true },
    });
    if quick {
        settings["connectTimeout"] = json!(400);
        settings["pingInterval"] = json!(300);
        settings["pingTimeout"] = json!(1000);
    }
    let mut server = Script::start("reference.mjs", &[("SETTINGS", &settings.to_string())]);
    let port = server.next()["port"].to_string();
    (server, port)
}

fn transcripts(port: &str, quick_port: &str) -> Transcripts {
    let parameters = [("PORT", port), ("QUICK_PORT", quick_port), ("TRANSPORTS", "")];
    let results = Script::start("transcripts.mjs", &parameters).results();
    results.into_iter().map(|result| (result["scenario"].as_str().unwrap().to_owned(), result)).collect()
}

fn with_the_reference() -> Transcripts {
    let ((_server, port), (_quick, quick_port)) = (reference(false), reference(true));
    transcripts(&port, &quick_port)
}

fn with_fanfare() -> Transcripts {
    let broker = Broker::start(&SETTINGS);
    let quick = Broker::start(&[SETTINGS.as_slice(), &QUICK].concat());
    let transcripts = transcripts(&broker.public.port().to_string(), &quick.public.port().to_string());
    quick.wait_for_zero();
    transcripts
}

/// The first step at which two transcripts part, for people.
fn parting(reference: &Value, fanfare: &Value) -> String {
    let (reference, fanfare) = (reference.as_array().unwrap(), fanfare.as_array().unwrap());
    let at = (0..).find(|at| reference.get(*at) != fanfare.get(*at)).unwrap();
    let show = |step: Option<&Value>| step.map_or("nothing".to_owned(), Value::to_string);
    format!("  reference: {}\n  fanfare:   {}", show(reference.get(at)), show(fanfare.get(at)))
}

#[test]
fn fanfare_answers_as_the_reference_server_does() {
    let other = thread::spawn(with_the_reference);
    let fanfare = with_fanfare();
    let reference = other.join().unwrap();
    assert!(reference.keys().eq(fanfare.keys()));
    let mut wrong = Vec::new();
    for (name, expected) in &reference {
        let (expected, found) = (&expected["transcript"], &fanfare[name]["transcript"]);
        match (expected == found, fanfare[name]["differs"].as_str()) {
            (true, None) | (false, Some(_)) => {}
            (false, None) => wrong.push(format!("{name}:\n{}", parting(expected, found))),
            (true, Some(_)) => wrong.push(format!("{name}: no longer differs")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), reference.len(), wrong.join("\n"));
}
