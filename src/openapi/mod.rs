//! The OpenAPI document (`GET /openapi.json`, `fanfare openapi`): every endpoint of the public port that is asked over HTTP.
//!
//! It is written by hand, one part for each app in the files beside this one, and put together here: the parts of what is
//! served, and the answers that any endpoint may give. It must not know how requests are carried out; that it says of them
//! what is true, the tests see to.

use serde_json::{Map, Value, json};

use crate::audience::App;

/// Where the document is served.
pub const PATH: &str = "/openapi.json";

/// What every document says.
const DOCUMENT: &str = include_str!("document.json");
const LOGIN: &str = include_str!("login.json");
const CONVERSATION: &str = include_str!("conversation.json");
const SUPPORT: &str = include_str!("support.json");
const MOBILE: &str = include_str!("mobile.json");

/// Answers of every endpoint, whatever it does: they are about the request as such, or the server.
const ANY: [(&str, &str); 8] = [
    ("400", "BadRequest"),
    ("403", "Forbidden"),
    ("408", "Timeout"),
    ("411", "LengthRequired"),
    ("413", "TooLarge"),
    ("431", "HeadTooLarge"),
    ("500", "Failed"),
    ("503", "Busy"),
];

/// What a server serves.
#[derive(Clone, Debug)]
pub struct Served<'a> {
    /// `info.title`.
    pub title: &'a str,
    /// Which apps, by [`App::index`].
    pub apps: [bool; App::COUNT],
    /// Whether users sign in here.
    pub login: bool,
}

/// The document, as JSON with line breaks.
pub fn document(served: &Served<'_>) -> String {
    let mut document = part(DOCUMENT);
    let parts = [
        (LOGIN, served.login),
        (CONVERSATION, served.apps[App::Conversation.index()]),
        (SUPPORT, served.apps[App::Support.index()]),
        (MOBILE, served.apps[App::Mobile.index()]),
    ];
    for (text, _) in parts.into_iter().filter(|(_, is_served)| *is_served) {
        add(&mut document, part(text));
    }
    for operation in operations(&mut document) {
        complete(operation);
    }
    document["info"]["title"] = json!(served.title);
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    format!("{document:#}\n")
}

fn part(text: &str) -> Value {
    serde_json::from_str(text).expect("the parts are in the program: the tests read all of them")
}

/// Adds to objects and lists, member by member.
fn add(to: &mut Value, part: Value) {
    match (to, part) {
        (Value::Object(to), Value::Object(part)) => {
            for (key, value) in part {
                match to.get_mut(&key) {
                    Some(there) => add(there, value),
                    None => {
                        to.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(to), Value::Array(part)) => to.extend(part),
        (to, part) => *to = part,
    }
}

/// The objects of all operations.
fn operations(document: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    let members = paths.filter_map(Value::as_object_mut).flatten();
    members.filter(|(key, _)| *key != "parameters").filter_map(|(_, value)| value.as_object_mut())
}

/// Adds the answers that need not be said of each. One that opens a WebSocket is answered elsewhere, and says all.
fn complete(operation: &mut Map<String, Value>) {
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    if responses.contains_key("101") {
        return;
    }
    for (status, name) in ANY {
        let reference = format!("#/components/responses/{name}");
        responses.entry(status).or_insert_with(|| json!({ "$ref": reference }));
    }
}

#[cfg(test)]
mod tests;
