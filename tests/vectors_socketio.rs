//! Runs the cases of `tests/vectors/engineio` and `tests/vectors/socketio`, one a file.
//!
//! `#` begins a remark, which is a line of its own; `\xHH` stands for a byte. In `engineio` a case is one of
//! `packet TEXT`, `payload BODY`, `request METHOD TARGET` (with `upgrade` behind it, or not), `open SID …` and
//! `frames`, the server's frames following as `> KIND VALUE`. In `socketio` it is `> TEXT`, with `max N` attachments
//! allowed, and the binary messages that follow as `+ BYTES`. `< ` is what comes of it, in order, and `= ` what is
//! written.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fanfare::proto::engineio::{self, Handshake, Malformed, Packet, Query};
use fanfare::proto::http;
use fanfare::proto::json::{Parser, Raw};
use fanfare::proto::socketio::{self, Assembly};
use fanfare::proto::ws;

const MAX_DEPTH: usize = 64;

#[test]
fn engineio_vectors() {
    for (path, text) in cases("engineio") {
        let lines: Vec<(&str, &str)> = lines(&text).collect();
        let (kind, input) = lines[0];
        let input = unescaped(input);
        let said = match kind {
            "packet" => vec![packet(engineio::decode(&input))],
            "payload" => engineio::payload(&input).map(packet).collect(),
            "request" => vec![request(&input)],
            "open" => vec![open(&input)],
            "frames" => vec![polled(&lines)],
            other => panic!("{}: unknown directive {other}", path.display()),
        };
        assert_eq!(said, expected(&lines), "{}", path.display());
    }
}

#[test]
fn socketio_vectors() {
    for (path, text) in cases("socketio") {
        let lines: Vec<(&str, &str)> = lines(&text).collect();
        let of = |directive| lines.iter().filter(move |line| line.0 == directive).map(|line| line.1);
        let input = unescaped(of(">").next().expect("a text"));
        let max = of("max").next().map_or(10, |number| number.parse().expect("a number"));
        let attachments: Vec<Vec<u8>> = of("+").map(hexadecimal).collect();
        assert_eq!(socketio_said(&input, max, &attachments), expected(&lines), "{}", path.display());
    }
}

/// What comes of a packet, and of its attachments if it has any.
fn socketio_said(text: &str, max_attachments: u32, attachments: &[Vec<u8>]) -> Vec<String> {
    let mut parser = Parser::new(MAX_DEPTH);
    let packet = match socketio::decode(text, &mut parser, max_attachments) {
        Ok(packet) => packet,
        Err(error) => return vec![format!("malformed {error:?}")],
    };
    let mut said = format!("{:?} {}", packet.kind, packet.namespace);
    said += &packet.id.map_or(String::new(), |id| format!(" id={id}"));
    if packet.kind.is_binary() {
        said += &format!(" attachments={}", packet.attachments);
    }
    said += &packet.data.map_or(String::new(), |data| format!(" data={data}"));
    let mut said = vec![said];
    if packet.kind.is_binary() {
        let mut assembly = Assembly::begin(text, packet.attachments);
        for (number, attachment) in attachments.iter().enumerate() {
            let is_last = assembly.add(attachment);
            assert_eq!(is_last, number + 1 == packet.attachments as usize);
        }
        said.push(match assembly.packet(&mut parser) {
            _ if !assembly.is_complete() => "incomplete".to_owned(),
            Ok(whole) => {
                assert_eq!(whole, packet);
                assert!(assembly.attachments().iter().map(|one| &**one).eq(attachments));
                "whole".to_owned()
            }
            Err(error) => format!("malformed {error:?}"),
        });
    }
    written_again(&packet, text);
    said
}

/// What was read and is written again is read as the same.
fn written_again(packet: &socketio::Packet<'_>, text: &str) {
    let mut out = Vec::new();
    socketio::write_head(&mut out, packet.kind, packet.attachments, packet.namespace, packet.id);
    out.extend_from_slice(packet.data.map_or("", Raw::text).as_bytes());
    let again = String::from_utf8(out).expect("text");
    let read = socketio::decode(&again, &mut Parser::new(MAX_DEPTH), u32::MAX);
    assert_eq!(read, Ok(*packet), "{text} was written as {again}");
}

fn packet(result: Result<Packet<'_>, Malformed>) -> String {
    match result {
        Ok(Packet::Binary(bytes)) => format!("Binary {bytes:02x?}"),
        Ok(packet) => format!("{packet:?}"),
        Err(error) => format!("malformed {error:?}"),
    }
}

/// What is asked for, or the answer.
fn request(line: &str) -> String {
    let (line, upgrade) = match line.strip_suffix(" upgrade") {
        Some(line) => (line, "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        None => (line, ""),
    };
    let head = format!("{line} HTTP/1.1\r\nHost: example.com\r\n{upgrade}\r\n");
    let (request, _) = http::parse_request(head.as_bytes(), 4096).expect("well-formed").expect("complete");
    match Query::of(&request) {
        Ok(query) => {
            assert_eq!(query.is_upgrade, !upgrade.is_empty());
            format!("{} sid={:?}", query.transport.name(), query.sid)
        }
        Err(error) => {
            let mut body = Vec::new();
            error.write_body(&mut body, error.message());
            format!("{} {}", error.status(), String::from_utf8(body).expect("text"))
        }
    }
}

/// `SID CAN_UPGRADE INTERVAL TIMEOUT MAX` → the packet that says so.
fn open(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let [sid, can_upgrade, interval, timeout, max] = words[..] else { panic!("five words") };
    let mut out = Vec::new();
    let milliseconds = |word: &str| Duration::from_millis(word.parse().expect("milliseconds"));
    engineio::write_open(
        &mut out,
        &Handshake {
            sid,
            can_upgrade: can_upgrade.parse().expect("true or false"),
            ping_interval: milliseconds(interval),
            ping_timeout: milliseconds(timeout),
            max_payload: max.parse().expect("bytes"),
        },
    );
    String::from_utf8(out).expect("text")
}

/// The polling body of frames, put together whole and frame by frame.
fn polled(lines: &[(&str, &str)]) -> String {
    let mut frames = Vec::new();
    let (mut whole, mut one_by_one) = (b"earlier".to_vec(), Vec::new());
    for (_, line) in lines.iter().filter(|line| line.0 == ">") {
        let (kind, value) = line.split_once(' ').unwrap_or((line, ""));
        let mut frame = Vec::new();
        match kind {
            "text" => ws::write_text(&mut frame, &[unescaped(value).as_bytes()]),
            "binary" => ws::write_binary(&mut frame, &[&hexadecimal(value)]),
            "ping" => ws::write_ping(&mut frame, &hexadecimal(value)),
            "pong" => ws::write_pong(&mut frame, &hexadecimal(value)),
            "close" => ws::write_close(&mut frame, 1000, value),
            other => panic!("unknown frame {other}"),
        }
        engineio::append_frames(&mut one_by_one, 0, &frame);
        frames.extend(frame);
    }
    let start = whole.len();
    engineio::append_frames(&mut whole, start, &frames);
    assert_eq!(whole[start..], one_by_one);
    String::from_utf8(one_by_one).expect("text").replace('\x1e', "\\x1e")
}

/// The files of one folder, in order.
fn cases(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&root).expect("the vectors").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no vectors in {}", root.display());
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("text"))).collect()
}

/// The directives of a case and what follows each.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split_once(' ').unwrap_or((line, "")))
}

fn expected<'a>(lines: &[(&str, &'a str)]) -> Vec<&'a str> {
    let expected: Vec<&str> =
        lines.iter().filter(|line| ["<", "="].contains(&line.0)).map(|line| line.1).collect();
    assert!(!expected.is_empty(), "expects nothing");
    expected
}

/// `\xHH` → the byte.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two hexadecimal digits"));
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("text")
}

fn hexadecimal(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits"))
        .collect()
}
