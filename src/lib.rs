//! fanfare: one process that fans live events out to very many clients.

pub mod audience;
pub mod close;
pub mod limits;
pub mod metrics;
pub mod shard;
pub mod time;
