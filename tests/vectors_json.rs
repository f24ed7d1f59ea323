//! The texts of `tests/vectors/json`, and random ones, found valid or not and navigated as serde_json does.
//!
//! `valid_*`, `invalid_*`, and `wide_*`, which are valid though some parsers refuse them.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare::proto::json::{JsonError, Parser, Raw, str_bytes, write_str};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

const MAX_DEPTH: usize = 64;

fn vectors(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no vectors in {}", folder.display());
    files
}

fn name(file: &Path) -> Cow<'_, str> {
    file.file_name().expect("a name").to_string_lossy()
}

/// The tree that serde_json would build, found by navigation.
fn tree(raw: Raw<'_>) -> Value {
    if raw.is_object() {
        Value::Object(raw.members().map(|(key, value)| (key.into_owned(), tree(value))).collect())
    } else if raw.is_array() {
        Value::Array(raw.items().map(tree).collect())
    } else if let Some(text) = raw.as_str() {
        Value::String(text.into_owned())
    } else if let Some(flag) = raw.as_bool() {
        Value::Bool(flag)
    } else if raw.is_null() {
        Value::Null
    } else {
        assert!(raw.is_number(), "{raw}");
        serde_json::from_str(raw.text()).expect("a number")
    }
}

/// Both ways to the members of an object find the same.
fn same_members(parser: &mut Parser, raw: Raw<'_>) {
    let text = format!("\n {raw}\t");
    let mut members = Vec::new();
    let is_object =
        parser.parse_members(text.as_bytes(), |key, value| members.push((key.into_owned(), value)));
    assert_eq!(is_object, Ok(raw.is_object()), "{raw}");
    assert!(raw.members().map(|(key, value)| (key.into_owned(), value)).eq(members), "{raw}");
}

#[test]
fn json_vectors() {
    let mut parser = Parser::new(MAX_DEPTH);
    for file in vectors("json") {
        let text = fs::read(&file).expect("readable");
        let result = parser.parse(&text);
        if name(&file).starts_with("invalid_") {
            let error = result.expect_err(&name(&file));
            assert!(!error.explain(&text).is_empty());
            continue;
        }
        let raw = result.unwrap_or_else(|error| panic!("{}: {}", name(&file), error.explain(&text)));
        assert_eq!(raw.bytes(), text.trim_ascii(), "{}", name(&file));
        same_members(&mut parser, raw);
        if name(&file).starts_with("valid_") {
            let expected: Value = serde_json::from_slice(&text).expect("valid");
            assert_eq!(tree(raw), expected, "{}", name(&file));
        }
    }
}

#[test]
fn errors_say_what_and_where() {
    let mut parser = Parser::new(MAX_DEPTH);
    let mut explain = |text: &[u8]| {
        let error = parser.parse(text).expect_err("wrong");
        (error, error.explain(text))
    };
    let (error, message) = explain(b"{\"a\":1,}");
    assert_eq!(error, JsonError::Syntax);
    assert_eq!(message, "not valid JSON: key must be a string at column 8");
    let (error, message) = explain(b"[\"\xff\"]");
    assert_eq!(error, JsonError::NotUtf8);
    assert_eq!(message, "not UTF-8: send JSON as UTF-8 (byte 3)");
    for text in
        ["[".repeat(65) + &"]".repeat(65), "[".repeat(65) + "1e999" + &"]".repeat(65), "[".repeat(5000)]
    {
        assert_eq!(explain(text.as_bytes()).0, JsonError::TooDeep);
    }
    assert_eq!(explain(("[\"".to_owned() + &"[".repeat(65) + "\",1e999,]").as_bytes()).0, JsonError::Syntax);
}

#[test]
fn values_answer_as_what_they_are() {
    let mut parser = Parser::new(MAX_DEPTH);
    let text = br#" {"n":12,"m":-3,"f":1.50,"big":1e999,"wei":18446744073709551616,"s":"a\ud83d\ude00\u00e9","cut":"x\ud83d","t":true,"z":null,"n":13,"a":[1,"2",{}],"\u006b":7} "#;
    let raw = parser.parse(text).expect("valid");
    let get = |key| raw.get(key).expect(key);
    assert_eq!((get("n").as_u64(), get("n").as_i64(), get("n").text()), (Some(13), Some(13), "13"));
    assert_eq!((get("m").as_u64(), get("m").as_i64(), get("m").as_f64()), (None, Some(-3), Some(-3.0)));
    assert_eq!((get("f").as_i64(), get("f").as_f64(), get("f").text()), (None, Some(1.5), "1.50"));
    assert_eq!((get("big").as_f64(), get("big").text()), (None, "1e999"));
    assert_eq!((get("wei").as_u64(), get("wei").as_f64()), (None, Some(18_446_744_073_709_551_616.0)));
    assert_eq!(get("s").as_str().as_deref(), Some("a😀é"));
    assert_eq!(get("cut").as_str().as_deref(), Some("x\u{fffd}"));
    assert_eq!((get("t").as_bool(), get("z").is_null(), get("z").as_bool()), (Some(true), true, None));
    assert_eq!(get("k").as_u64(), Some(7));
    assert!(raw.get("none").is_none() && get("a").get("n").is_none() && get("n").items().next().is_none());
    assert_eq!(get("a").items().map(Raw::text).collect::<Vec<_>>(), ["1", "\"2\"", "{}"]);
    assert!(matches!(get("a").items().nth(1).and_then(Raw::as_str), Some(Cow::Borrowed("2"))));
    assert!(get("s").as_f64().is_none() && get("n").as_str().is_none() && get("a").as_str().is_none());
}

fn any_string() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,6}",
        any::<String>(),
        proptest::collection::vec(
            prop_oneof![
                Just('"'),
                Just('\\'),
                Just('\n'),
                Just('{'),
                Just(']'),
                Just(','),
                Just('😀'),
                Just('x')
            ],
            0..70
        )
        .prop_map(String::from_iter),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1000i32..1000).prop_map(|number| Value::from(f64::from(number) / 8.0 + 0.0625)),
        any_string().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::vec((any_string(), inner), 0..8)
                .prop_map(|members| Value::from(Map::from_iter(members))),
        ]
    })
}

/// Bytes that are often nearly JSON.
fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        proptest::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "\\u",
            "d83d",
            "\\udE00",
            "null",
            "true",
            "false",
            "-",
            "0",
            "1",
            "12",
            ".",
            "e",
            "E+",
            "1e999",
            "18446744073709551616",
            " ",
            "\n",
            "\t",
            "\"a\"",
            "\"b\":",
            "\u{1}",
            "é",
            "/",
            "tru",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        any::<u8>().prop_map(|byte| vec![byte]),
    ];
    let damaged =
        (any_value(), any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(value, at, byte)| {
            let mut text = value.to_string().into_bytes();
            let at = at.index(text.len());
            text[at] = byte;
            text
        });
    prop_oneof![
        proptest::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat()),
        proptest::collection::vec(any::<u8>(), 0..200),
        damaged,
    ]
}

/// Reads everything there is to read.
fn visit(raw: Raw<'_>) -> usize {
    let _ = (raw.as_str(), raw.as_u64(), raw.as_i64(), raw.as_f64(), raw.as_bool(), raw.get("a"));
    let members: usize = raw.members().map(|(key, value)| key.len() + visit(value)).sum();
    members + raw.items().map(visit).sum::<usize>() + 1
}

fn agrees(parser: &mut Parser, text: &[u8]) -> TestCaseResult {
    let expected =
        std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    match parser.parse(text) {
        Ok(raw) => {
            prop_assert!(expected, "only serde_json refuses it");
            visit(raw);
            same_members(parser, raw);
            if let Ok(value) = serde_json::from_slice::<Value>(text) {
                prop_assert_eq!(tree(raw), value);
            }
        }
        Err(JsonError::TooDeep) => {}
        Err(error) => prop_assert!(!expected, "only serde_json takes it: {}", error),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_printed_navigates_to_the_same(value in any_value()) {
        let mut parser = Parser::new(MAX_DEPTH);
        for text in [value.to_string(), serde_json::to_string_pretty(&value).expect("printable")] {
            let raw = parser.parse(text.as_bytes()).expect("valid");
            prop_assert_eq!(raw.text(), &text);
            prop_assert_eq!(tree(raw), value.clone());
            same_members(&mut parser, raw);
            if let Value::Object(members) = &value {
                for (key, value) in members {
                    prop_assert_eq!(raw.get(key).map(tree), Some(value.clone()));
                }
            }
        }
    }

    #[test]
    fn random_text_is_judged_as_serde_json_judges_it(texts in proptest::collection::vec(any_text(), 1..8)) {
        let mut parser = Parser::new(MAX_DEPTH);
        for text in texts {
            agrees(&mut parser, &text)?;
        }
    }

    #[test]
    fn strings_are_written_as_they_are_read(text in any_string()) {
        let mut out = Vec::new();
        write_str(&mut out, &text);
        prop_assert_eq!(out.len(), str_bytes(&text));
        let read = Parser::new(MAX_DEPTH).parse(&out).expect("valid").as_str().map(Cow::into_owned);
        prop_assert_eq!(read, Some(text.clone()));
        prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("valid"), text);
    }

    #[test]
    fn numbers_are_read_as_they_were_printed(float in any::<f64>(), signed in any::<i64>(), unsigned in any::<u64>()) {
        let text = format!("[{float:?},{signed},{unsigned}]");
        let mut parser = Parser::new(MAX_DEPTH);
        if let Ok(raw) = parser.parse(text.as_bytes()) {
            let numbers: Vec<Raw<'_>> = raw.items().collect();
            prop_assert_eq!(numbers[0].as_f64(), Some(float));
            prop_assert_eq!(numbers[1].as_i64(), Some(signed));
            prop_assert_eq!(numbers[2].as_u64(), Some(unsigned));
        } else {
            prop_assert!(!float.is_finite());
        }
    }
}
