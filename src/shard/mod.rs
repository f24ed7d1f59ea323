//! One thread with one poll loop, and the clients it owns.

pub mod tls;
pub mod transport;
