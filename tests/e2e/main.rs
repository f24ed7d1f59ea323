//! The real binary over real sockets: what `spec/` promises to clients, backends and operators, one file a subject.
//!
//! One test program for all, since much of its time is waiting: the tests then wait side by side.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod account;
mod auth;
mod content;
mod conversation;
mod drain;
mod engineio;
mod expiry;
mod fairness;
mod fanout;
mod gateway;
mod hostile;
mod ingest;
mod limits;
mod login;
mod market;
mod mobile;
mod openapi;
mod operations;
mod overload;
mod polling;
mod races;
mod recovery;
mod rest;
mod rooms;
mod sessions;
mod socketio;
mod tls;
