//! The plain and the TLS transport, against rustls' own client and foreign ones, over real sockets and over a
//! simulated stream that takes and gives bytes as it pleases.

#![allow(clippy::unwrap_used)]

mod certificates;
mod config;
mod foreign;
mod link;
mod loopback;
mod peers;
mod server;
mod simulated;
