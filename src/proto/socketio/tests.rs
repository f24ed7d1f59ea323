//! Packets written and read again, and texts that are nearly packets.

use proptest::prelude::*;

use super::*;

const KINDS: [Kind; 7] = [
    Kind::Connect,
    Kind::Disconnect,
    Kind::Event,
    Kind::Ack,
    Kind::ConnectError,
    Kind::BinaryEvent,
    Kind::BinaryAck,
];

fn parser() -> Parser {
    Parser::new(64)
}

/// A payload that a packet of that kind may carry.
fn payload(kind: Kind, text: &str) -> String {
    let mut string = Vec::new();
    crate::proto::json::write_str(&mut string, text);
    let string = String::from_utf8(string).expect("text");
    match kind {
        Kind::Connect => format!("{{\"token\":{string}}}"),
        Kind::Disconnect => String::new(),
        Kind::ConnectError => string,
        Kind::Event | Kind::BinaryEvent => format!("[1,{string}]"),
        Kind::Ack | Kind::BinaryAck => format!("[{string}]"),
    }
}

#[test]
fn a_digit_is_a_kind_and_back() {
    for kind in KINDS {
        assert_eq!(Kind::from_digit(kind.digit()), Some(kind));
    }
    assert_eq!((Kind::from_digit(b'7'), Kind::from_digit(b'/')), (None, None));
}

#[test]
fn an_event_has_a_name_and_arguments_an_ack_has_none() {
    let mut parser = parser();
    let packet = decode(r#"2["a",1,{"b":2}]"#, &mut parser, 0).expect("an event");
    assert_eq!(packet.event().and_then(Raw::as_str).as_deref(), Some("a"));
    assert_eq!(packet.arguments().map(Raw::text).collect::<Vec<_>>(), ["1", r#"{"b":2}"#]);
    let packet = decode(r#"37["a",1]"#, &mut parser, 0).expect("an ack");
    assert!(packet.event().is_none());
    assert_eq!(packet.arguments().map(Raw::text).collect::<Vec<_>>(), [r#""a""#, "1"]);
    let packet = decode("37", &mut parser, 0).expect("an ack");
    assert_eq!(packet.arguments().count(), 0);
}

#[test]
fn an_assembly_is_complete_with_its_last_attachment_and_takes_no_more() {
    let text = r#"52-/a,7["e",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#;
    let mut parser = parser();
    let count = decode(text, &mut parser, 10).expect("good").attachments;
    let mut assembly = Assembly::begin(text, count);
    assert!(!assembly.is_complete() && !assembly.add(b"one") && assembly.add(b"") && assembly.add(b"three"));
    assert_eq!(assembly.attachments(), [Box::from(*b"one"), Box::from(*b"")]);
    let packet = assembly.packet(&mut parser).expect("good");
    assert_eq!((packet.kind, packet.namespace, packet.id), (Kind::BinaryEvent, "/a", Some(7)));
    assert_eq!(assembly.text(), text);
}

#[test]
fn placeholders_name_attachments_that_are_there() {
    let valid = |text: &str| {
        let mut parser = parser();
        placeholders_valid(parser.parse(text.as_bytes()).expect("JSON"), 2)
    };
    for good in [
        "[]",
        "null",
        r#"{"_placeholder":true,"num":0}"#,
        r#"[{"a":[{"num":1,"_placeholder":true}]},{"_placeholder":true,"num":0}]"#,
        r#"{"_placeholder":false,"num":9}"#,
        r#"{"_placeholder":"true","num":9}"#,
        r#"{"_placeholder":true,"num":9,"num":1}"#,
        r#"{"_placeholder":true,"num":1,"more":{"_placeholder":true}}"#,
        r#""{\"_placeholder\":true,\"num\":9}""#,
    ] {
        assert!(valid(good), "{good}");
    }
    for bad in [
        r#"{"_placeholder":true,"num":2}"#,
        r#"{"_placeholder":true,"num":-1}"#,
        r#"{"_placeholder":true,"num":0.5}"#,
        r#"{"_placeholder":true,"num":"0"}"#,
        r#"{"_placeholder":true,"num":null}"#,
        r#"{"_placeholder":true,"num":1e999}"#,
        r#"{"_placeholder":true}"#,
        r#"{"_place\u0068older":true}"#,
        r#"[1,[{"a":{"b":{"_placeholder":true,"num":7}}}]]"#,
        r#"{"_placeholder":false,"more":{"_placeholder":true}}"#,
    ] {
        assert!(!valid(bad), "{bad}");
    }
}

#[test]
fn answers_to_a_connect_are_as_the_reference_writes_them() {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    };
    assert_eq!(written(&|out| write_connect(out, "/", "s", None)), r#"0{"sid":"s"}"#);
    assert_eq!(written(&|out| write_connect(out, "/a", "s", Some("p"))), r#"0/a,{"sid":"s","pid":"p"}"#);
    assert_eq!(
        written(&|out| write_connect_error(out, "/random", "Invalid namespace", None)),
        r#"4/random,{"message":"Invalid namespace"}"#
    );
    assert_eq!(
        written(&|out| write_connect_error(out, "/", "no \"token\"", Some(b"{\"code\":1}"))),
        r#"4{"message":"no \"token\"","data":{"code":1}}"#
    );
    assert_eq!(written(&|out| write_head(out, Kind::Disconnect, 0, "/a", None)), "1/a,");
}

/// Texts made of what packets are made of.
fn near_packet() -> impl Strategy<Value = String> {
    let token = proptest::sample::select(vec![
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "12",
        "-",
        "/",
        "/a",
        ",",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\"a\"",
        ":",
        "null",
        "true",
        "\\",
        " ",
        "é",
        "[\"connect\"]",
        "[\"a\"]",
        "{\"a\":1}",
        "99999999999999999999",
    ]);
    proptest::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn packets_are_read_as_they_were_written(
        kind in proptest::sample::select(KINDS.to_vec()),
        attachments in 1u32..=10,
        namespace in prop_oneof![Just("/".to_owned()), "/[^,]{0,20}"],
        id in any::<Option<u64>>(),
        text in any::<String>(),
        has_data in any::<bool>(),
    ) {
        let payload = if has_data { payload(kind, &text) } else { String::new() };
        let mut out = Vec::new();
        write_head(&mut out, kind, attachments, &namespace, id);
        out.extend_from_slice(payload.as_bytes());
        let written = String::from_utf8(out).expect("text");
        let mut parser = parser();
        let packet = decode(&written, &mut parser, 10).expect("what was written is good");
        prop_assert_eq!(packet.kind, kind);
        prop_assert_eq!(packet.attachments, if kind.is_binary() { attachments } else { 0 });
        prop_assert_eq!(packet.namespace, namespace);
        prop_assert_eq!(packet.id, id);
        prop_assert_eq!(packet.data.map_or("", Raw::text), payload);
    }

    #[test]
    fn nothing_panics_and_what_is_taken_is_within_bounds(text in prop_oneof![any::<String>(), near_packet()]) {
        let mut parser = parser();
        match decode(&text, &mut parser, 3) {
            Ok(packet) => {
                prop_assert!(packet.attachments <= 3 && (packet.attachments == 0 || packet.kind.is_binary()));
                prop_assert!(packet.namespace.starts_with('/') && !packet.namespace.contains(','));
                prop_assert_eq!(packet.event().is_some(), packet.kind.is_event() && packet.data.is_some());
                let _ = packet.arguments().count();
                let mut again = Vec::new();
                write_head(&mut again, packet.kind, packet.attachments, packet.namespace, packet.id);
                again.extend_from_slice(packet.data.map_or("", Raw::text).as_bytes());
                let again = String::from_utf8(again).expect("text");
                prop_assert_eq!(decode(&again, &mut Parser::new(64), 3), Ok(packet));
            }
            Err(error) => prop_assert!(!error.text().is_empty()),
        }
        let mut assembly = Assembly::begin(&text, 1);
        assembly.add(b"a");
        let _ = assembly.packet(&mut parser);
    }

    #[test]
    fn placeholders_of_any_json_are_judged(data in near_packet()) {
        if let Ok(raw) = parser().parse(data.as_bytes()) {
            placeholders_valid(raw, 1);
        }
    }
}
