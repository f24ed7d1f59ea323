//! fanfare: one process that fans live events out to very many clients.

pub mod accept;
pub mod admin;
pub mod app;
pub mod audience;
pub mod auth;
pub mod broker;
pub mod cli;
pub mod close;
pub mod config;
pub mod limits;
pub mod mailbox;
pub mod metrics;
pub mod proto;
pub mod room;
pub mod router;
pub mod settings;
pub mod shard;
pub mod time;
pub mod transport;
pub mod users;
