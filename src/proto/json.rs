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

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memchr2};
use serde::de::IgnoredAny;
use simd_json::{Buffers, ErrorType, INPUT_PADDING, Tape, fill_tape_padded};

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

/// Validates texts. Its buffers are kept from one to the next and are a small multiple of the longest text, which
/// the caller bounds.
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

/// A valid JSON value as it was written, without the white space around it.
///
/// Only [`Parser::parse`] makes one, from a text that it found valid. The methods rely on that for their answers,
/// never for their safety.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// `null`.
    pub const NULL: Raw<'static> = Raw("null");

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
            Some(first) => Cow::Owned(unescape(inner, first)),
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

/// Resolves the escapes of `inner`, the first of which is at `first` (RFC 8259 §7).
fn unescape(inner: &str, first: usize) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    let mut next = Some(first);
    while let Some((plain, escape)) = next.and_then(|at| rest.split_at_checked(at)) {
        out.push_str(plain);
        let (character, length) = resolve_escape(escape);
        out.push(character);
        rest = escape.get(length..).unwrap_or("");
        next = memchr(b'\\', rest.as_bytes());
    }
    out.push_str(rest);
    out
}

/// The character that the escape at the beginning of `escape` stands for, and its length in bytes.
fn resolve_escape(escape: &str) -> (char, usize) {
    let character = match escape.as_bytes().get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return resolve_unicode_escape(escape),
        Some(&other) => char::from(other),
        None => char::REPLACEMENT_CHARACTER,
    };
    (character, 2)
}

/// As [`resolve_escape`], for `\uXXXX` and pairs of them.
fn resolve_unicode_escape(escape: &str) -> (char, usize) {
    let unit = |at: usize| -> Option<u16> {
        let digits = escape.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(0) else { return (char::REPLACEMENT_CHARACTER, 6) };
    if let Some(character) = char::from_u32(u32::from(first)) {
        return (character, 6);
    }
    let pair = [first, unit(6).unwrap_or(0)];
    match char::decode_utf16(pair).next() {
        Some(Ok(character)) => (character, 12),
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

/// Appends `text` as a JSON string. Only what RFC 8259 §7 demands is escaped.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        write_escape(out, byte);
        plain = at + 1;
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0x8 => out.extend_from_slice(b"\\b"),
        0xc => out.extend_from_slice(b"\\f"),
        _ => out.extend_from_slice(&[
            b'\\',
            b'u',
            b'0',
            b'0',
            HEX[usize::from(byte >> 4)],
            HEX[usize::from(byte & 15)],
        ]),
    }
}
