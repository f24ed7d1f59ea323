//! Packets with attachments: a text with placeholders, and the binary messages that follow it.

use super::{Malformed, Packet, decode};
use crate::proto::json::{Parser, Raw};

/// A packet whose attachments are still on their way.
///
/// It holds the text and at most the announced number of attachments, which [`decode`] has judged. With the size
/// limit of messages, which bounds the text and each attachment, it is at most `limits.message_size` ×
/// (1 + `limits.attachments`) bytes. A connection has at most one: any text before it is whole is a fault, and so
/// is a binary message without one.
#[derive(Debug)]
pub struct Assembly {
    text: Box<str>,
    expected: usize,
    /// At most `expected`.
    attachments: Vec<Box<[u8]>>,
}

impl Assembly {
    /// Begins with the text of a packet that was read as having so many attachments. Without any it is complete at
    /// once.
    pub fn begin(text: &str, attachments: u32) -> Assembly {
        Assembly { text: text.into(), expected: attachments as usize, attachments: Vec::new() }
    }

    /// Takes the next binary message and says whether it was the last. A complete assembly takes no more.
    pub fn add(&mut self, attachment: &[u8]) -> bool {
        if !self.is_complete() {
            self.attachments.push(attachment.into());
        }
        self.is_complete()
    }

    /// Whether all attachments are there.
    pub fn is_complete(&self) -> bool {
        self.attachments.len() == self.expected
    }

    /// The packet, which borrows the text that was kept.
    ///
    /// # Errors
    /// [`Malformed::Placeholder`]; and those of [`decode`], if the text was never read.
    pub fn packet(&self, parser: &mut Parser) -> Result<Packet<'_>, Malformed> {
        let packet = decode(&self.text, parser, u32::MAX)?;
        let is_valid = packet.data.is_none_or(|data| placeholders_valid(data, self.expected));
        if is_valid { Ok(packet) } else { Err(Malformed::Placeholder) }
    }

    /// The text it began with.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The attachments that have come, in order.
    pub fn attachments(&self) -> &[Box<[u8]>] {
        &self.attachments
    }
}

/// Whether every placeholder in `data`, an object with `"_placeholder":true`, names in `"num"` one of so many
/// attachments. An attachment may be named more than once or not at all.
pub fn placeholders_valid(data: Raw<'_>, attachments: usize) -> bool {
    // The parser's depth limit bounds the recursion.
    if data.is_array() {
        return data.items().all(|item| placeholders_valid(item, attachments));
    }
    let (mut is_placeholder, mut number, mut inner_valid) = (false, None, true);
    // Of several members of one name the last counts.
    for (key, value) in data.members() {
        match &*key {
            "_placeholder" => is_placeholder = value.as_bool() == Some(true),
            "num" => number = value.as_f64(),
            _ => {}
        }
        inner_valid &= placeholders_valid(value, attachments);
    }
    if !is_placeholder {
        return inner_valid;
    }
    number.is_some_and(|number| number >= 0.0 && number < attachments as f64 && number.fract() == 0.0)
}
