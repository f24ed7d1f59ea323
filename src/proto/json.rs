//! JSON that is passed on as it was written.
//!
//! [`Parser`] validates a text with simd-json; [`Raw`] then finds values in that text without building a tree, so
//! that what a publisher wrote reaches clients byte for byte. This file knows RFC 8259 and nothing of any message.
//!
//! What is valid is what RFC 8259 says, however large a number is. simd-json is stricter: it refuses numbers
//! that fit no `u64`, `i64` or finite `f64`, and escaped surrogates without their other half, which JavaScript
//! writes when a string was cut inside an emoji. What it refuses is therefore looked at again by serde_json,
//! without reading numbers or building strings. Such texts and broken ones are rare, so the common path pays
//! nothing for it.

mod string;

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memchr2};
use serde::de::IgnoredAny;
use simd_json::{Buffers, ErrorType, INPUT_PADDING, Tape, fill_tape_padded};

pub use string::{str_bytes, write_str};

/// Why a text is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// Not JSON by RFC 8259. [`JsonError::explain`] says where.
    Syntax,
    /// Nested deeper than the parser allows.
    TooDeep,
    /// Not UTF-8.
    NotUtf8,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JsonError::Syntax => "not valid JSON",
            JsonError::TooDeep => "nested too deeply: use fewer levels of objects and arrays",
            JsonError::NotUtf8 => "not UTF-8: send JSON as UTF-8",
        })
    }
}

impl std::error::Error for JsonError {}

impl JsonError {
    /// The error with the place where `text`, which was refused with it, goes wrong. It reads the text once
    /// more, so it is for answers to people, not for the common path.
    pub fn explain(self, text: &[u8]) -> String {
        match (self, std::str::from_utf8(text)) {
            (JsonError::NotUtf8, Err(error)) => format!("{self} (byte {})", error.valid_up_to() + 1),
            (JsonError::Syntax, Ok(text)) => match serde_json::from_str::<IgnoredAny>(text) {
                // Most texts are one line, and a "line 1" beside the number of an ingest line would mislead.
                Err(error) if error.line() == 1 => {
                    format!("{self}: {}", error.to_string().replace(" at line 1 column ", " at column "))
                }
                Err(error) => format!("{self}: {error}"),
                Ok(_) => self.to_string(),
            },
            _ => self.to_string(),
        }
    }
}

/// Validates texts. Its buffers are kept from one text to the next, one parser serves a whole thread. They grow
/// to about 30 bytes for each byte of the longest text (a list of single digits, say), which the caller bounds.
pub struct Parser {
    buffers: Buffers,
    tape: Tape<'static>,
    /// The text that is being validated and its padding: simd-json unescapes strings in place.
    scratch: Vec<u8>,
    max_depth: usize,
}

impl Parser {
    /// A parser that refuses more than `max_depth` objects and arrays within each other (`limits.json_depth`).
    pub fn new(max_depth: usize) -> Parser {
        Parser {
            buffers: Buffers::with_max_depth(0, max_depth),
            tape: Tape(Vec::new()),
            scratch: Vec::new(),
            max_depth,
        }
    }

    /// The value that `text` holds, which is one JSON value with white space around it.
    pub fn parse<'a>(&mut self, text: &'a [u8]) -> Result<Raw<'a>, JsonError> {
        let utf8 = std::str::from_utf8(text).map_err(|_| JsonError::NotUtf8)?;
        self.validate(utf8)?;
        Ok(Raw(utf8.trim_matches(SPACE)))
    }

    /// Calls `visit` with each member of the object that `text` holds, the key unescaped, and returns whether it
    /// is an object. The same as [`Parser::parse`] and [`Raw::members`], in two thirds of the time: simd-json
    /// found the places of all parts already, so the text is not searched again.
    pub fn parse_members<'a>(
        &mut self,
        text: &'a [u8],
        mut visit: impl FnMut(Cow<'a, str>, Raw<'a>),
    ) -> Result<bool, JsonError> {
        let utf8 = std::str::from_utf8(text).map_err(|_| JsonError::NotUtf8)?;
        self.validate(utf8)?;
        // They are all there even if simd-json refused the text later and serde_json took it: a text on which the
        // search for them fails is not JSON.
        let structurals = Structurals { text: utf8, places: self.buffers.structural_indexes() };
        if structurals.byte(0) != Some(b'{') {
            return Ok(false);
        }
        let mut at = 1;
        while let Some(b'"') = structurals.byte(at) {
            // A key, a colon, the value, then a comma or the closing brace.
            let next = structurals.value_end(at + 2);
            let key = structurals.raw(at, at + 1).and_then(Raw::as_str);
            if let (Some(key), Some(value)) = (key, structurals.raw(at + 2, next)) {
                visit(key, value);
            }
            at = next + 1;
        }
        Ok(true)
    }

    fn validate(&mut self, text: &str) -> Result<(), JsonError> {
        self.scratch.clear();
        self.scratch.extend_from_slice(text.as_bytes());
        self.scratch.extend_from_slice(&[b' '; INPUT_PADDING]);
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let result = fill_tape_padded(&mut self.scratch, text.len(), &mut self.buffers, &mut tape);
        self.tape = tape.reset();
        match result {
            Ok(()) => Ok(()),
            Err(error) if *error.error() == ErrorType::DepthLimitExceeded => Err(JsonError::TooDeep),
            Err(_) => self.validate_again(text),
        }
    }

    /// Judges by RFC 8259 what simd-json refused.
    #[cold]
    fn validate_again(&self, text: &str) -> Result<(), JsonError> {
        if nesting(text) > self.max_depth {
            return Err(JsonError::TooDeep);
        }
        serde_json::from_str::<IgnoredAny>(text).map(|_| ()).map_err(|_| JsonError::Syntax)
    }
}

/// A text, and the places in it where simd-json found a bracket, a comma, a colon, or the beginning of a string, a
/// number, `true`, `false` or `null`.
struct Structurals<'p, 'a> {
    text: &'a str,
    places: &'p [u32],
}

impl<'a> Structurals<'_, 'a> {
    fn place(&self, at: usize) -> Option<usize> {
        self.places.get(at).map(|place| *place as usize)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(self.place(at)?).copied()
    }

    /// The structural after the value that begins with structural `at`.
    fn value_end(&self, mut at: usize) -> usize {
        let mut depth = 0usize;
        while let Some(byte) = self.byte(at) {
            at += 1;
            // '[' and '{', and likewise ']' and '}', differ in this bit alone, and nothing else is like them.
            match byte | 0x20 {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        at
    }

    /// The value from structural `at` to before structural `end`.
    fn raw(&self, at: usize, end: usize) -> Option<Raw<'a>> {
        let text = self.text.get(self.place(at)?..self.place(end)?)?;
        Some(Raw(text.trim_end_matches(SPACE)))
    }
}

/// A valid JSON value as it was written, without the white space around it.
///
/// Only [`Parser::parse`] makes one, from a text that it found valid. The methods rely on that for their answers,
/// never for their safety.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// `null`.
    pub const NULL: Raw<'static> = Raw("null");

    /// `{}`.
    pub const EMPTY_OBJECT: Raw<'static> = Raw("{}");

    /// The value as it was written.
    pub const fn text(self) -> &'a str {
        self.0
    }

    /// The value as it was written.
    pub const fn bytes(self) -> &'a [u8] {
        self.0.as_bytes()
    }

    /// The text of a string, unescaped; borrowed when it has no escapes. Half a surrogate pair, which is valid
    /// JSON and no character, becomes U+FFFD.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        Some(match memchr(b'\\', inner.as_bytes()) {
            None => Cow::Borrowed(inner),
            Some(first) => Cow::Owned(string::unescape(inner, first)),
        })
    }

    /// The value of a number written as an integer that fits.
    pub fn as_u64(self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// The value of a number written as an integer that fits.
    pub fn as_i64(self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// The nearest value of a number, if that is finite.
    pub fn as_f64(self) -> Option<f64> {
        if !self.is_number() {
            return None;
        }
        self.0.parse().ok().filter(|value: &f64| value.is_finite())
    }

    /// The value of `true` or `false`.
    pub fn as_bool(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// Whether it is a number.
    pub fn is_number(self) -> bool {
        matches!(self.first(), Some(b'-' | b'0'..=b'9'))
    }

    /// Whether it is a string.
    pub fn is_string(self) -> bool {
        self.first() == Some(b'"')
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.first() == Some(b'{')
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        self.first() == Some(b'[')
    }

    /// The member of an object by its unescaped key. Of several the last, as in JavaScript.
    pub fn get(self, key: &str) -> Option<Raw<'a>> {
        self.members().filter(|(name, _)| name == key).last().map(|(_, value)| value)
    }

    /// The members of an object as they were written, keys unescaped; nothing for any other value.
    pub fn members(self) -> Members<'a> {
        Members(Walk::new(self, self.is_object()))
    }

    /// The items of an array; nothing for any other value.
    pub fn items(self) -> Items<'a> {
        Items(Walk::new(self, self.is_array()))
    }

    fn first(self) -> Option<u8> {
        self.bytes().first().copied()
    }
}

impl fmt::Display for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The members of an object; see [`Raw::members`].
#[derive(Clone, Debug)]
pub struct Members<'a>(Walk<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Raw<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.value()?.as_str()?;
        self.0.at = skip_space(self.0.text.as_bytes(), self.0.at) + 1; // the colon
        let value = self.0.value()?;
        self.0.separator();
        Some((key, value))
    }
}

/// The items of an array; see [`Raw::items`].
#[derive(Clone, Debug)]
pub struct Items<'a>(Walk<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = Raw<'a>;

    #[inline]
    fn next(&mut self) -> Option<Raw<'a>> {
        let item = self.0.value()?;
        self.0.separator();
        Some(item)
    }
}

/// A place in the inside of an object or an array.
#[derive(Clone, Debug)]
struct Walk<'a> {
    /// What stands between the brackets.
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    fn new(value: Raw<'a>, is_walkable: bool) -> Walk<'a> {
        let inside = value.0.len().checked_sub(1).and_then(|end| value.0.get(1..end));
        Walk { text: inside.filter(|_| is_walkable).unwrap_or(""), at: 0 }
    }

    /// The value that begins here, if any is left.
    #[inline]
    fn value(&mut self) -> Option<Raw<'a>> {
        let start = skip_space(self.text.as_bytes(), self.at);
        self.at = value_end(self.text.as_bytes(), start);
        self.text.get(start..self.at).filter(|value| !value.is_empty()).map(Raw)
    }

    /// Goes past the comma, or to the end.
    #[inline]
    fn separator(&mut self) {
        self.at = skip_space(self.text.as_bytes(), self.at) + 1;
    }
}

/// The white space of RFC 8259 §2.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The place of the first byte from `at` that is not white space.
#[inline]
fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// The place after the value that begins at `start`.
#[inline]
fn value_end(text: &[u8], start: usize) -> usize {
    match text.get(start) {
        Some(b'"') => string_end(text, start),
        Some(b'{' | b'[') => nested_end(text, start),
        _ => scalar_end(text, start),
    }
}

/// The place after the string whose opening quote is at `start`.
#[inline]
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if text.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// The place after the object or array that begins at `start`.
fn nested_end(text: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return at + 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The place after the number, `true`, `false` or `null` that begins at `start`.
#[inline]
fn scalar_end(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
    rest.iter().position(ends).map_or(text.len(), |length| start + length)
}

/// How many objects and arrays stand within each other at the deepest place of a text that need not be valid.
fn nesting(text: &str) -> usize {
    let text = text.as_bytes();
    let (mut depth, mut deepest, mut at) = (0usize, 0, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
        at += 1;
    }
    deepest
}
