//! The store on real SQLite files: what each request means, and what holds whatever happens.

#![allow(clippy::unwrap_used)]

mod accounts;
mod conversations;
mod crash;
mod ephemeral;
mod fixture;
mod messages;
mod mobile;
mod model;
mod open;
mod support;
mod threads;
