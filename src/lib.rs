//! fanfare: one process that fans live events out to very many clients.

pub mod admin;
pub mod audience;
pub mod close;
pub mod limits;
pub mod metrics;
pub mod time;
