//! The real clients against the real broker: socket.io-client 4 and 3, python-socketio, and raw exchanges that are
//! compared with the reference server; and schemathesis, which asks all that the OpenAPI document describes.
//!
//! The scenarios are scripts in `scripts/`, in the languages of the clients. They print what came of each scenario; the
//! tests here start brokers and scripts, and judge. Needs Node.js with npm, and Python 3; the packages are installed
//! into the target directory (`install`). The test page is looked at with Chromium (`page`).

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod endings;
mod examples;
mod fanout;
mod install;
mod market;
mod mobile;
mod openapi;
mod page;
mod recovery;
mod script;
mod transcripts;
mod upgrade;

/// Client packages: the current one, and the one before it.
const CLIENTS: [&str; 2] = ["socket.io-client", "socket.io-client-3"];

/// The transports of a client, as its option has them.
const TRANSPORTS: [&str; 3] = ["websocket", "polling", "polling,websocket"];
