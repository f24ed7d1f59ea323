//! A stream of bytes, cut into lines. What a line means is not known here.

use memchr::memchr;

/// Cuts what is read from a publisher into lines that end with `\n` or `\r\n`, and counts them from 1.
///
/// A line that lies whole in what was read is handed out as it lies there. Only the beginning of a line whose end
/// has not come yet is kept: at most `max_line` bytes and a carriage return.
#[derive(Debug)]
pub struct Splitter {
    max_line: usize,
    /// The number of the line that is being read.
    number: u64,
    tail: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `tail` is the beginning of the line, and may be empty.
    Reading,
    /// `tail` is a line that was handed out, to be forgotten.
    HandedOut,
    /// The line is too long and was reported; its rest is skipped.
    Skipping,
}

/// What a [`Splitter`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line that is not blank.
    Line {
        /// Which line of the connection, from 1.
        number: u64,
        /// Without its end.
        text: &'a [u8],
    },
    /// A line over the limit. It comes once for each, as soon as it is known; the rest of the line is skipped.
    TooLong {
        /// Which line of the connection, from 1.
        number: u64,
    },
}

impl Splitter {
    /// A splitter at the beginning of a stream, for lines of at most `max_line` bytes, not counting their end
    /// (`ingest.max_line`).
    pub fn new(max_line: usize) -> Splitter {
        Splitter { max_line, number: 1, tail: Vec::new(), state: State::Reading }
    }

    /// The next piece, taken off the front of `input`; `None` when all of `input` is used up. To be called until
    /// then, with what was read.
    pub fn next<'piece, 'input: 'piece>(&'piece mut self, input: &mut &'input [u8]) -> Option<Piece<'piece>> {
        if self.state == State::HandedOut {
            self.tail.clear();
            self.state = State::Reading;
        }
        while let Some(length) = memchr(b'\n', input) {
            let (line, rest) = input.split_at(length);
            *input = &rest[1..];
            let number = self.number;
            self.number += 1;
            if self.state == State::Skipping {
                self.state = State::Reading;
                continue;
            }
            if self.tail.is_empty() {
                match self.judge(number, line) {
                    Some(piece) => return Some(piece),
                    None => continue,
                }
            }
            if self.tail.len() + line.len() > self.max_line + 1 {
                self.tail.clear();
                return Some(Piece::TooLong { number });
            }
            self.tail.extend_from_slice(line);
            if self.judge(number, &self.tail).is_none() {
                self.tail.clear();
                continue;
            }
            self.state = State::HandedOut;
            return self.judge(number, &self.tail);
        }
        let rest = std::mem::take(input);
        self.keep(rest)
    }

    /// The last line of a stream that is over, if it had no end: right for the body of a request, while on a
    /// connection such a line is discarded.
    pub fn finish(&mut self) -> Option<Piece<'_>> {
        match std::mem::replace(&mut self.state, State::HandedOut) {
            State::Reading => self.judge(self.number, &self.tail),
            State::HandedOut | State::Skipping => None,
        }
    }

    /// Whether a line has begun and its end has not come.
    pub fn is_mid_line(&self) -> bool {
        match self.state {
            State::Reading => !self.tail.is_empty(),
            State::HandedOut => false,
            State::Skipping => true,
        }
    }

    fn judge<'a>(&self, number: u64, line: &'a [u8]) -> Option<Piece<'a>> {
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        if text.len() > self.max_line {
            return Some(Piece::TooLong { number });
        }
        (!is_blank(text)).then_some(Piece::Line { number, text })
    }

    /// Keeps the beginning of a line, or finds that it is too long already.
    fn keep(&mut self, rest: &[u8]) -> Option<Piece<'static>> {
        if self.state == State::Skipping {
            return None;
        }
        let length = self.tail.len() + rest.len();
        let last = rest.last().or(self.tail.last());
        // A carriage return may belong to the end of the line.
        let is_too_long = length > self.max_line + 1 || (length > self.max_line && last != Some(&b'\r'));
        if is_too_long {
            self.tail.clear();
            self.state = State::Skipping;
            return Some(Piece::TooLong { number: self.number });
        }
        self.tail.extend_from_slice(rest);
        None
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}
