//! The one error type: a sentence for the person at the terminal, saying what
//! failed, where, and what to do. Nothing here is matched on.

use std::fmt;

/// Why a run ended early.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure described by `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Adds to an error where it happened.
pub trait Context<T> {
    /// Turns the error into a [`Failure`] that starts with `place`.
    fn context(self, place: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, place: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{}: {error}", place())))
    }
}
