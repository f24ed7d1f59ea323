//! fanfare: one process that fans live events out to very many clients.

pub mod audience;
pub mod auth;
pub mod cli;
pub mod close;
pub mod config;
pub mod limits;
pub mod metrics;
pub mod settings;
pub mod time;
