//! What a decoder holds on to, and that it reads back whatever a client may send, however it is cut.
//! Single frames, good and bad, are in `tests/vectors/ws`.

use proptest::prelude::*;

use super::super::{CONTROL_BYTES, write_header};
use super::*;

const MAX_MESSAGE: usize = 32 * 1024;

/// A client's frame, masked with `mask`.
fn masked(opcode: Opcode, is_final: bool, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = announced(opcode, mask, payload.len());
    if !is_final {
        frame[0] &= 0x7f;
    }
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The header of such a frame alone.
fn announced(opcode: Opcode, mask: [u8; 4], payload_len: usize) -> Vec<u8> {
    let mut header = Vec::new();
    write_header(&mut header, opcode, payload_len);
    header[1] |= 0x80;
    header.extend(mask);
    header
}

/// Bytes of payload the decoder has room for.
fn room(decoder: &Decoder) -> usize {
    decoder.unfinished.as_ref().map_or(0, |unfinished| {
        unfinished.control.capacity() + unfinished.message.as_ref().map_or(0, |m| m.payload.capacity())
    })
}

#[test]
fn an_idle_decoder_is_sixteen_bytes() {
    assert!(size_of::<Decoder>() <= 16);
    assert!(Decoder::new().is_idle());
}

#[test]
fn room_follows_what_arrived_and_not_what_was_announced() {
    let mut decoder = Decoder::new();
    let mut header = announced(Opcode::Binary, [1; 4], MAX_MESSAGE);
    assert_eq!(decoder.decode(&mut header, MAX_MESSAGE), Ok((8, None)));
    assert_eq!(room(&decoder), 0);
    assert!(!decoder.is_idle());
    for arrived in 1..=MAX_MESSAGE {
        let complete = matches!(decoder.decode(&mut [0], MAX_MESSAGE), Ok((1, Some(_))));
        assert_eq!(complete, arrived == MAX_MESSAGE);
        assert!(room(&decoder) <= (2 * arrived).min(MAX_MESSAGE));
    }
}

#[test]
fn what_was_lent_is_given_back_on_the_next_call() {
    let mut decoder = Decoder::new();
    let mut text = masked(Opcode::Text, false, [9; 4], b"Hel");
    let mut ping = masked(Opcode::Ping, true, [8; 4], b"there?");
    let mut rest = masked(Opcode::Continuation, true, [7; 4], b"lo");
    assert_eq!(decoder.decode(&mut text, MAX_MESSAGE), Ok((9, None)));
    let (first, second) = ping.split_at_mut(8);
    assert_eq!(decoder.decode(first, MAX_MESSAGE), Ok((8, None)));
    assert_eq!(decoder.decode(second, MAX_MESSAGE), Ok((4, Some(Message::Ping(b"there?")))));
    assert!(!decoder.is_idle(), "the text is not finished");
    assert_eq!(decoder.decode(&mut rest, MAX_MESSAGE), Ok((8, Some(Message::Text("Hello")))));
    assert!(decoder.is_idle());
    assert_eq!(decoder.decode(&mut [], MAX_MESSAGE), Ok((0, None)));
    assert!(decoder.unfinished.is_none());
}

#[test]
fn after_a_violation_everything_is_discarded() {
    for mut bad in [vec![0x83, 0x80, 0, 0, 0, 0], masked(Opcode::Text, true, [3; 4], b"\xff")] {
        let mut decoder = Decoder::new();
        assert!(decoder.decode(&mut bad, MAX_MESSAGE).is_err());
        let mut good = masked(Opcode::Text, true, [3; 4], b"hi");
        assert_eq!(decoder.decode(&mut good, MAX_MESSAGE), Ok((8, None)));
        assert!(decoder.is_idle());
    }
}

#[test]
fn unmasking_a_part_goes_on_where_the_part_before_it_ended() {
    let plain: Vec<u8> = (0..=255).collect();
    for cut in 0..40 {
        let mut frame = masked(Opcode::Binary, true, [1, 2, 4, 8], &plain);
        let (first, second) = frame.split_at_mut(8 + cut);
        let mut decoder = Decoder::new();
        assert_eq!(decoder.decode(first, MAX_MESSAGE), Ok((8 + cut, None)));
        assert_eq!(
            decoder.decode(second, MAX_MESSAGE),
            Ok((256 - cut, Some(Message::Binary(&plain)))),
            "{cut}"
        );
    }
}

/// What a client sends, and so what must come out.
#[derive(Clone, Debug, PartialEq)]
enum Sent {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl Sent {
    fn of(message: Message<'_>) -> Sent {
        match message {
            Message::Text(text) => Sent::Text(text.to_owned()),
            Message::Binary(bytes) => Sent::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Sent::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Sent::Pong(bytes.to_vec()),
            Message::Close { code, reason } => Sent::Close(code.map(|code| (code, reason.to_owned()))),
        }
    }
}

/// Everything that comes out of `input`, cut after each of the `lengths` in turn, and the violation that ended it.
fn decode_all(
    decoder: &mut Decoder,
    input: &[u8],
    lengths: &[usize],
    max: usize,
) -> (Vec<Sent>, Option<Violation>) {
    let mut input = input.to_vec();
    let mut input = input.as_mut_slice();
    let mut lengths = lengths.iter().copied().cycle();
    let mut out = Vec::new();
    while !input.is_empty() {
        let length = lengths.next().unwrap_or(input.len()).clamp(1, input.len());
        let (mut piece, rest) = input.split_at_mut(length);
        input = rest;
        loop {
            match decoder.decode(piece, max) {
                Ok((consumed, Some(message))) => {
                    out.push(Sent::of(message));
                    piece = &mut piece[consumed..];
                }
                Ok((consumed, None)) => {
                    assert_eq!(consumed, piece.len());
                    break;
                }
                Err(violation) => return (out, Some(violation)),
            }
            assert!(room(decoder) <= max + CONTROL_BYTES);
        }
    }
    (out, None)
}

fn control() -> impl Strategy<Value = Sent> {
    let payload = || proptest::collection::vec(any::<u8>(), 0..=CONTROL_BYTES);
    prop_oneof![payload().prop_map(Sent::Ping), payload().prop_map(Sent::Pong)]
}

fn data() -> impl Strategy<Value = Sent> {
    prop_oneof![
        "\\PC{0,200}".prop_map(Sent::Text),
        proptest::collection::vec(any::<u8>(), 0..700).prop_map(Sent::Binary)
    ]
}

/// The frames of a message in pieces of the given lengths, each followed by the control frame beside it.
fn fragments(message: &Sent, pieces: &[(usize, Sent)], mask: [u8; 4]) -> (Vec<u8>, Vec<Sent>) {
    let (opcode, mut payload) = match message {
        Sent::Text(text) => (Opcode::Text, text.as_bytes()),
        Sent::Binary(bytes) => (Opcode::Binary, bytes.as_slice()),
        Sent::Ping(bytes) => (Opcode::Ping, bytes.as_slice()),
        Sent::Pong(bytes) => (Opcode::Pong, bytes.as_slice()),
        Sent::Close(_) => unreachable!("made by the test itself"),
    };
    let mut opcode = opcode;
    let (mut out, mut expected) = (Vec::new(), Vec::new());
    for (length, between) in pieces {
        let (piece, rest) = payload.split_at((*length).min(payload.len()));
        out.extend(masked(opcode, false, mask, piece));
        (opcode, payload) = (Opcode::Continuation, rest);
        let (frame, message) = fragments(between, &[], mask);
        out.extend(frame);
        expected.extend(message);
    }
    out.extend(masked(opcode, true, mask, payload));
    expected.push(message.clone());
    (out, expected)
}

proptest! {
    #[test]
    fn whatever_is_sent_comes_out(
        messages in proptest::collection::vec(
            (data(), proptest::collection::vec((0usize..150, control()), 0..4), any::<[u8; 4]>()), 1..6),
        lengths in proptest::collection::vec(1usize..400, 1..8),
        close in proptest::option::of((prop_oneof![1000u16..=1003, 1007u16..=1014, 3000u16..=4999], "\\PC{0,30}")),
    ) {
        let (mut input, mut expected) = (Vec::new(), Vec::new());
        for (message, pieces, mask) in &messages {
            let (frames, sent) = fragments(message, pieces, *mask);
            input.extend(frames);
            expected.extend(sent);
        }
        let payload = close.as_ref().map_or(Vec::new(), |(code, reason)| {
            [&code.to_be_bytes(), reason.as_bytes()].concat()
        });
        input.extend(masked(Opcode::Close, true, [5, 6, 7, 8], &payload));
        expected.push(Sent::Close(close));
        let mut decoder = Decoder::new();
        let (out, violation) = decode_all(&mut decoder, &input, &lengths, MAX_MESSAGE);
        prop_assert_eq!(violation, None);
        prop_assert_eq!(out, expected);
        prop_assert!(decoder.is_idle());
    }

    #[test]
    fn hostile_bytes_end_alike_however_they_are_cut(
        frames in proptest::collection::vec(
            (0u8..=255, 0u8..=255, proptest::collection::vec(any::<u8>(), 0..40)), 1..6),
        lengths in proptest::collection::vec(1usize..20, 1..8),
    ) {
        let input: Vec<u8> = frames
            .iter()
            // Mostly masked and short, so that many get past the header.
            .flat_map(|(first, second, rest)| {
                let second = if second % 8 == 0 { *second } else { 0x80 | (second % 16) };
                [vec![first & 0x8f, second], rest.clone()].concat()
            })
            .collect();
        let whole = decode_all(&mut Decoder::new(), &input, &[], 64);
        let cut = decode_all(&mut Decoder::new(), &input, &lengths, 64);
        prop_assert_eq!(whole, cut);
    }
}
