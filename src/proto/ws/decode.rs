//! Client → server: frames off a byte stream, whole messages out.
//!
//! The common message, one frame that lies whole in the input, is unmasked and borrowed where it lies. Only
//! what is unfinished when the input ends is kept, in one box that goes when it is finished, so an idle
//! connection costs the sixteen bytes of [`Decoder`].

use std::ops::Range;

use tungstenite::protocol::frame::coding::CloseCode;

use super::header::{self, HEADER_BYTES, Header};
use super::{Message, Opcode, Violation};

/// Reads one client's frames.
#[derive(Debug, Default)]
pub struct Decoder {
    unfinished: Option<Box<Unfinished>>,
    /// After a close frame or a violation nothing is read any more (RFC 6455 §1.4, §7.1.7).
    ended: bool,
}

/// What the input so far has begun and not finished, or what the caller was just lent.
#[derive(Debug, Default)]
struct Unfinished {
    /// The first `header_length` bytes of a header; zero while none is cut in two.
    header: [u8; HEADER_BYTES],
    header_length: usize,
    /// The frame whose payload is coming in.
    frame: Option<Partial>,
    /// The text or binary message whose fragments are coming in.
    message: Option<Gathered>,
    /// The payload so far of a control frame that is coming in: at most `CONTROL_BYTES`.
    control: Vec<u8>,
    /// What the caller holds of the two above; it is given back on the next call.
    lent: Option<Opcode>,
}

/// A frame whose header was read.
#[derive(Clone, Copy, Debug)]
struct Partial {
    opcode: Opcode,
    is_final: bool,
    /// Turned so that its first byte belongs to the next byte of the payload.
    mask: [u8; 4],
    /// Bytes of payload still to come.
    remaining: usize,
}

/// The payload so far of a message.
#[derive(Debug)]
struct Gathered {
    opcode: Opcode,
    /// Invariant: its length plus the current frame's `remaining` never exceeds `max_message`,
    /// nor does its capacity.
    payload: Vec<u8>,
    /// For text: so many bytes at the front are UTF-8; at most three less than there are.
    checked: usize,
}

/// Where the payload of a complete message lies.
enum Place {
    /// In the input.
    Input(Range<usize>),
    /// In `Unfinished`, as `lent` says.
    Gathered,
}

impl Decoder {
    /// A decoder that has read nothing.
    pub const fn new() -> Decoder {
        Decoder { unfinished: None, ended: false }
    }

    /// Whether no frame and no message is half read.
    pub fn is_idle(&self) -> bool {
        self.ended || self.unfinished.as_ref().is_none_or(|unfinished| !unfinished.is_open())
    }

    /// Takes frames off the front of `input`, unmasking in place, up to the end of the first complete message.
    ///
    /// Returns how many bytes were taken, and the message; `(input.len(), None)` when more is needed. Call it
    /// with the rest of the input until it returns `None`: only that gives back the buffer of a message that
    /// came in parts. A message over `max_message` bytes (fragments add up) fails by what its headers announce,
    /// before any of the offending payload is kept; memory grows with what arrived, not with what was announced.
    /// After a close frame or a violation all input is discarded.
    ///
    /// # Errors
    /// The rule the client broke. The connection cannot go on (RFC 6455 §7.1.7).
    pub fn decode<'a>(
        &'a mut self,
        input: &'a mut [u8],
        max_message: usize,
    ) -> Result<(usize, Option<Message<'a>>), Violation> {
        if self.ended {
            self.unfinished = None;
            return Ok((input.len(), None));
        }
        self.release();
        let (consumed, opcode, place) = match self.advance(input, max_message) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok((input.len(), None)),
            Err(violation) => {
                *self = Decoder { unfinished: None, ended: true };
                return Err(violation);
            }
        };
        let payload = match (&self.unfinished, place) {
            (_, Place::Input(payload)) => &input[payload],
            (Some(unfinished), Place::Gathered) => unfinished.gathered(opcode),
            (None, Place::Gathered) => &[],
        };
        let message = message(opcode, payload);
        self.ended = opcode == Opcode::Close || message.is_err();
        Ok((consumed, Some(message?)))
    }

    /// Gives back what the caller was lent, and the box when nothing is left in it.
    fn release(&mut self) {
        if let Some(unfinished) = &mut self.unfinished {
            match unfinished.lent.take() {
                Some(opcode) if opcode.is_control() => unfinished.control = Vec::new(),
                Some(_) => unfinished.message = None,
                None => {}
            }
            if !unfinished.is_open() {
                self.unfinished = None;
            }
        }
    }

    /// Reads up to the end of a message: the bytes taken, what it is and where. `None` when all was taken.
    fn advance(
        &mut self,
        input: &mut [u8],
        max_message: usize,
    ) -> Result<Option<(usize, Opcode, Place)>, Violation> {
        let mut at = 0;
        loop {
            if let Some(unfinished) = &mut self.unfinished
                && unfinished.frame.is_some()
            {
                if let Some(opcode) = unfinished.fill(input, &mut at)? {
                    return Ok(Some((at, opcode, Place::Gathered)));
                }
                if unfinished.frame.is_some() {
                    return Ok(None);
                }
            }
            let Some(header) = self.take_header(input, &mut at)? else {
                return Ok(None);
            };
            let remaining = self.judge(&header, max_message)?;
            let whole = header.is_final
                && header.opcode != Opcode::Continuation
                && input.len().saturating_sub(at) >= remaining;
            if whole {
                let payload = at..at + remaining;
                unmask(&mut input[payload.clone()], header.mask);
                return Ok(Some((payload.end, header.opcode, Place::Input(payload))));
            }
            self.unfinished.get_or_insert_default().begin(&header, remaining);
        }
    }

    /// Takes the next header off `input`; keeps its beginning and returns `None` when it is not all there.
    fn take_header(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Header>, Violation> {
        let rest = &input[*at..];
        if let Some(unfinished) = &mut self.unfinished
            && unfinished.header_length > 0
        {
            let (header, taken) = unfinished.complete_header(rest)?;
            *at += taken;
            return Ok(header);
        }
        if let Some((header, length)) = header::read(rest)? {
            *at += length;
            return Ok(Some(header));
        }
        if !rest.is_empty() {
            let unfinished = self.unfinished.get_or_insert_default();
            unfinished.header[..rest.len()].copy_from_slice(rest);
            unfinished.header_length = rest.len();
        }
        Ok(None)
    }

    /// The rules that need the message so far; returns the length of the payload.
    fn judge(&self, header: &Header, max_message: usize) -> Result<usize, Violation> {
        let message = self.unfinished.as_ref().and_then(|unfinished| unfinished.message.as_ref());
        let gathered = match (header.opcode, message) {
            (Opcode::Continuation, None) => {
                return Err(Violation::Protocol("continuation frame, but no message to continue"));
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(Violation::Protocol("a new message began before the last one ended"));
            }
            (Opcode::Continuation, Some(message)) => message.payload.len(),
            (Opcode::Text | Opcode::Binary, None) => 0,
            // Their size is judged by `header::read`, whatever `max_message` is.
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(header.payload as usize),
        };
        match usize::try_from(header.payload) {
            Ok(payload) if payload <= max_message.saturating_sub(gathered) => Ok(payload),
            _ => Err(Violation::TooLarge),
        }
    }
}

impl Unfinished {
    /// Whether more is needed to finish something.
    fn is_open(&self) -> bool {
        let message_is_open = self.message.is_some() && self.lent.is_none_or(|opcode| opcode.is_control());
        self.header_length > 0 || self.frame.is_some() || message_is_open
    }

    /// Adds to the kept beginning of a header: it, once it is complete, and the bytes taken from `input`.
    fn complete_header(&mut self, input: &[u8]) -> Result<(Option<Header>, usize), Violation> {
        let mut taken = 0;
        while self.header_length < header::needed(&self.header[..self.header_length]) {
            let Some(byte) = input.get(taken) else {
                return Ok((None, taken));
            };
            self.header[self.header_length] = *byte;
            self.header_length += 1;
            taken += 1;
        }
        let length = std::mem::take(&mut self.header_length);
        let header = header::read(&self.header[..length])?.map(|(header, _)| header);
        Ok((header, taken))
    }

    /// Prepares for a payload of `remaining` bytes.
    fn begin(&mut self, header: &Header, remaining: usize) {
        if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            self.message = Some(Gathered { opcode: header.opcode, payload: Vec::new(), checked: 0 });
        }
        self.frame =
            Some(Partial { opcode: header.opcode, is_final: header.is_final, mask: header.mask, remaining });
    }

    /// Moves what `input` has of the current frame's payload to where it is gathered. Returns what is complete
    /// with it, and notes it as lent.
    fn fill(&mut self, input: &mut [u8], at: &mut usize) -> Result<Option<Opcode>, Violation> {
        let Some(frame) = &mut self.frame else {
            return Ok(None);
        };
        let taken = frame.remaining.min(input.len() - *at);
        let bytes = &mut input[*at..*at + taken];
        unmask(bytes, frame.mask);
        frame.mask.rotate_left(taken % 4);
        frame.remaining -= taken;
        *at += taken;
        let opcode = match &mut self.message {
            Some(message) if !frame.opcode.is_control() => {
                message.append(bytes, frame.remaining)?;
                message.opcode
            }
            _ => {
                self.control.extend_from_slice(bytes);
                frame.opcode
            }
        };
        if frame.remaining > 0 {
            return Ok(None);
        }
        if frame.is_final {
            self.lent = Some(opcode);
        }
        self.frame = None;
        Ok(self.lent)
    }

    /// The payload of the complete message of that kind.
    fn gathered(&self, opcode: Opcode) -> &[u8] {
        match &self.message {
            Some(message) if !opcode.is_control() => &message.payload,
            _ => &self.control,
        }
    }
}

impl Gathered {
    /// Adds `bytes`, which `to_come` more of the same frame will follow; fails at the first byte that no
    /// continuation could make UTF-8.
    fn append(&mut self, bytes: &[u8], to_come: usize) -> Result<(), Violation> {
        let needed = self.payload.len() + bytes.len();
        if needed > self.payload.capacity() {
            // Doubling, so that many small pieces cost linear time, but never past what is announced.
            let target = needed.max((self.payload.capacity() * 2).min(needed + to_come));
            self.payload.reserve_exact(target - self.payload.len());
        }
        self.payload.extend_from_slice(bytes);
        if self.opcode == Opcode::Text {
            match std::str::from_utf8(&self.payload[self.checked..]) {
                Ok(_) => self.checked = self.payload.len(),
                Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
                Err(_) => return Err(Violation::InvalidUtf8),
            }
        }
        Ok(())
    }
}

/// Gives a complete payload its meaning.
fn message(opcode: Opcode, payload: &[u8]) -> Result<Message<'_>, Violation> {
    match opcode {
        Opcode::Text => Ok(Message::Text(text(payload)?)),
        // A continuation is lent as what its first fragment was.
        Opcode::Binary | Opcode::Continuation => Ok(Message::Binary(payload)),
        Opcode::Ping => Ok(Message::Ping(payload)),
        Opcode::Pong => Ok(Message::Pong(payload)),
        Opcode::Close => close(payload),
    }
}

/// RFC 6455 §5.5.1 and §7.4: an optional code, and after it an optional reason.
fn close(payload: &[u8]) -> Result<Message<'_>, Violation> {
    match payload {
        [] => Ok(Message::Close { code: None, reason: "" }),
        [_] => Err(Violation::Protocol("a close frame cannot carry half a code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(Violation::Protocol("this close code must not be sent"));
            }
            Ok(Message::Close { code: Some(code), reason: text(reason)? })
        }
    }
}

/// 1014 (bad gateway) was registered after tungstenite's list was made.
fn may_be_sent(code: u16) -> bool {
    code == 1014 || CloseCode::from(code).is_allowed()
}

fn text(payload: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(payload).map_err(|_| Violation::InvalidUtf8)
}

/// RFC 6455 §5.3, eight bytes at a time, which the compiler widens to whole vectors.
#[inline]
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.to_ne_bytes()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests;
