//! What the loads of messages that are kept have in common: a fanfare with a
//! database of its own (`server`), what a connection hears (`heard`), what is
//! counted while it is measured (`tally`), and the result (`report`).

pub mod heard;
pub mod report;
pub mod server;
pub mod tally;
