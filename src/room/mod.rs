//! Rooms: names and patterns, publications, members, newest values, histories, interest.
//!
//! Pure: no sockets, threads, locks or clocks. Every table here has one owner.

pub mod history;
pub mod interest;
pub mod latest;
pub mod members;
pub mod name;
pub mod pattern;
pub mod publication;
