//! Rooms: names and patterns, publications, members, newest values, interest.
//!
//! Pure: no sockets, threads, locks or clocks. Every table here has one owner.

pub mod interest;
pub mod latest;
pub mod members;
pub mod name;
pub mod pattern;
pub mod publication;
