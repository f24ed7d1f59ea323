//! What a connection hears of messages that have numbers, told apart without
//! parsing JSON.

use memchr::memmem;

use crate::client::Sink;

/// How the texts of an app begin, and what is in front of a message's number.
pub struct Words {
    pub message: &'static [u8],
    /// That a message has reached somebody; `None`: the app does not say so.
    pub receipt: Option<&'static [u8]>,
    pub error: &'static [u8],
    pub number: &'static [u8],
}

/// What one read of one connection gave.
pub struct Heard {
    words: &'static Words,
    /// The numbers of the messages that came.
    pub numbers: Vec<u64>,
    pub receipts: u64,
    /// The first error, as it came.
    pub error: Option<String>,
}

impl Sink for Heard {
    fn message(&mut self, payload: &[u8]) {
        let begins = |word: &[u8]| payload.starts_with(word);
        if begins(self.words.message) {
            match self.number(payload) {
                Some(number) => self.numbers.push(number),
                None => self.fail(payload),
            }
        } else if self.words.receipt.is_some_and(begins) {
            self.receipts += 1;
        } else if begins(self.words.error) {
            self.fail(payload);
        }
    }
}

impl Heard {
    /// Nothing so far.
    pub fn new(words: &'static Words) -> Heard {
        Heard { words, numbers: Vec::new(), receipts: 0, error: None }
    }

    fn fail(&mut self, payload: &[u8]) {
        self.error.get_or_insert_with(|| String::from_utf8_lossy(payload).into_owned());
    }

    fn number(&self, payload: &[u8]) -> Option<u64> {
        let start = memmem::find(payload, self.words.number)? + self.words.number.len();
        let digits = payload[start..].split(|byte| !byte.is_ascii_digit()).next()?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}
