//! The document against the endpoints as the code knows them: each is in it, and it has no other.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;
use crate::app::rest::{self, Endpoint, Personal, conversations, login, mobile, support};

/// An id in a path.
const ID: &str = "0197a6f0-0000-7000-8000-000000000000";

const ALL: Served<'static> = Served { title: "title \"quoted\"", apps: [true; App::COUNT], login: true };

fn whole() -> Value {
    serde_json::from_str(&document(&ALL)).unwrap()
}

/// The `operationId` of every endpoint; a new one must be named here, or this does not compile.
macro_rules! operations {
    ($($endpoint:pat => $operation:literal,)*) => {
        const OPERATIONS: &[&str] = &[$($operation),*];

        fn operation_of(endpoint: Endpoint) -> &'static str {
            match endpoint {
                $($endpoint => $operation,)*
            }
        }
    };
}

operations! {
    Endpoint::Document => "getDocument",
    Endpoint::Login(login::Endpoint::Login) => "login",
    Endpoint::Login(login::Endpoint::LoginOrExchange) => "loginOrExchange",
    Endpoint::Login(login::Endpoint::Refresh) => "refresh",
    Endpoint::Login(login::Endpoint::WebSocketToken) => "createWebSocketToken",
    Endpoint::Personal(Personal::Conversations(conversations::Endpoint::Create)) => "createConversation",
    Endpoint::Personal(Personal::Conversations(conversations::Endpoint::List { .. })) => "listConversations",
    Endpoint::Personal(Personal::Conversations(conversations::Endpoint::Messages(_))) => "listConversationMessages",
    Endpoint::Personal(Personal::Mobile(mobile::Endpoint::Send)) => "sendPersonalMessage",
    Endpoint::Personal(Personal::Mobile(mobile::Endpoint::Messages)) => "listPersonalMessages",
    Endpoint::Personal(Personal::Mobile(mobile::Endpoint::Conversations)) => "listPersonalConversations",
    Endpoint::Personal(Personal::Mobile(mobile::Endpoint::Balance)) => "getBalance",
    Endpoint::Personal(Personal::Mobile(mobile::Endpoint::Transactions)) => "listTransactions",
    Endpoint::Personal(Personal::Support(support::Endpoint::Create)) => "createSession",
    Endpoint::Personal(Personal::Support(support::Endpoint::List)) => "listSessions",
    Endpoint::Personal(Personal::Support(support::Endpoint::Session(_))) => "getSession",
    Endpoint::Personal(Personal::Support(support::Endpoint::Close(_))) => "closeSession",
    Endpoint::Personal(Personal::Support(support::Endpoint::Messages(_))) => "listSessionMessages",
    Endpoint::Personal(Personal::Support(support::Endpoint::Send(_))) => "sendSessionMessage",
    Endpoint::Personal(Personal::Support(support::Endpoint::MarkRead(_))) => "markRead",
    Endpoint::Personal(Personal::Support(support::Endpoint::Participants(_))) => "listParticipants",
    Endpoint::Personal(Personal::Support(support::Endpoint::Block)) => "block",
    Endpoint::Personal(Personal::Support(support::Endpoint::Unblock)) => "unblock",
    Endpoint::Personal(Personal::Support(support::Endpoint::Census)) => "getConnections",
}

/// Path, method and operation of all that is not answered with a WebSocket.
fn asked(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            if operation["responses"].get("101").is_none() {
                all.push((path.clone(), method.to_uppercase(), operation.clone()));
            }
        }
    }
    all
}

fn find(method: &str, path: &str) -> Result<Endpoint, crate::app::rest::RestError> {
    let path = path.replace("{session_id}", ID).replace("{conversation_id}", ID);
    assert!(!path.contains('{'), "{path}");
    let served = rest::Served { apps: ALL.apps, login: true };
    Endpoint::find(method, &path, served).unwrap_or_else(|| panic!("{path} is no path"))
}

#[test]
fn every_endpoint_is_in_the_document_and_no_other() {
    let mut described = BTreeSet::new();
    for (path, method, operation) in asked(&whole()) {
        let id = operation["operationId"].as_str().unwrap();
        assert_eq!(find(&method, &path).map(operation_of), Ok(id), "{method} {path}");
        assert!(described.insert(id.to_owned()), "{id} twice");
    }
    let known: BTreeSet<String> = OPERATIONS.iter().map(|id| (*id).to_owned()).collect();
    assert_eq!(described, known);
}

#[test]
fn every_method_of_a_path_is_described() {
    let document = whole();
    for (path, _, _) in asked(&document) {
        let error = find("DELETE", &path).expect_err("no endpoint takes DELETE");
        let allowed: BTreeSet<&str> = error.allow.unwrap().split(", ").collect();
        let item = document["paths"][&path].as_object().unwrap();
        let described: BTreeSet<String> =
            item.keys().filter(|key| *key != "parameters").map(|method| method.to_uppercase()).collect();
        assert!(described.iter().map(String::as_str).eq(allowed), "{path}: {described:?}");
    }
}

#[test]
fn who_needs_a_token_is_told() {
    let document = whole();
    for (path, method, operation) in asked(&document) {
        let endpoint = find(&method, &path).unwrap();
        let security = operation.get("security").unwrap_or(&document["security"]);
        let scheme = security.get(0).and_then(|schemes| schemes.as_object()?.keys().next());
        let expected = match endpoint {
            Endpoint::Login(login::Endpoint::Refresh) => Some("refreshToken"),
            Endpoint::Login(login::Endpoint::WebSocketToken) => Some("bearer"),
            other => matches!(other, Endpoint::Personal(_)).then_some("bearer"),
        };
        assert_eq!(scheme.map(String::as_str), expected, "{method} {path}");
        let can_be_refused = operation["responses"].get("401").is_some();
        assert!(can_be_refused || expected.is_none(), "{method} {path}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, document: &Value, used: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                    used.insert(reference.clone());
                }
                members.values().for_each(|member| walk(member, document, used));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, document, used)),
            _ => {}
        }
    }
    let document = whole();
    let mut used = BTreeSet::new();
    walk(&document, &document, &mut used);
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys().filter(|_| kind != "securitySchemes") {
            assert!(used.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name} is not used");
        }
    }
}

#[test]
fn what_is_not_served_is_not_described() {
    let nothing = Served { apps: [false; App::COUNT], login: false, ..ALL };
    let document: Value = serde_json::from_str(&super::document(&nothing)).unwrap();
    assert_eq!(document["info"]["title"], "title \"quoted\"");
    assert!(document["paths"].as_object().unwrap().keys().eq([PATH]));
    for app in App::ALL {
        let mut apps = [false; App::COUNT];
        apps[app.index()] = true;
        let document: Value = serde_json::from_str(&super::document(&Served { apps, ..nothing })).unwrap();
        let served = rest::Served { apps, login: false };
        for (path, method, _) in asked(&whole()) {
            let is_found = Endpoint::find(
                &method,
                &path.replace("{session_id}", ID).replace("{conversation_id}", ID),
                served,
            )
            .is_some();
            assert_eq!(document["paths"].get(&path).is_some(), is_found, "{path} of {app:?}");
        }
    }
}
