//! The plain and the TLS transport, against rustls' own client and foreign ones, over real sockets and over a
//! simulated stream that takes and gives bytes as it pleases.

mod certificates;
mod link;
mod peers;
mod simulated;
