//! What the statements of a request work on, and why one stops.

use rusqlite::Connection;

use super::cache::Cache;
use crate::record::{Effect, Refusal};

/// Why a request was not carried out.
#[derive(Debug)]
pub(super) enum Stop {
    /// It may not be, or it cannot. Nothing was written that should not be.
    Refused(Refusal),
    /// The database failed.
    Failed(rusqlite::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Stop {
        Stop::Failed(error)
    }
}

/// What statements work on.
pub(super) struct Work<'a> {
    pub connection: &'a Connection,
    pub cache: &'a mut Cache,
    pub effects: &'a mut Vec<Effect>,
    /// The time of the request, Unix ms.
    pub at: u64,
}
