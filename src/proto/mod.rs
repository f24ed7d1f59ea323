//! Bytes ↔ values: the codecs of everything that crosses a socket.
//!
//! Pure: no sockets, files, clocks, threads or logging. A codec is handed bytes and gives back values or a
//! named fault, so each is tested from vectors (`tests/vectors`), whole, byte by byte and at random splits.

pub mod engineio;
pub mod http;
pub mod ingest;
pub mod json;
pub mod socketio;
pub mod upgrade;
pub mod ws;
