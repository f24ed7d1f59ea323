//! Protocols: bytes to values and back. Pure: no sockets, files, threads, clocks or logging.

pub mod ingest;
pub mod json;
