//! Which endpoint a path is, and what is said of who is connected.

use super::*;
use crate::record::support::SessionCensus;

const ID: Uuid = Uuid::from_bytes([0xc0; 16]);

#[test]
fn paths_and_methods_name_endpoints() {
    let path = |rest: &str| format!("/api/v1/chat/{}", rest.replace("ID", &ID.to_string()));
    let found = |method: &str, rest: &str| endpoint(method, &path(rest));
    for (method, rest, expected) in [
        ("POST", "sessions", Endpoint::Create),
        ("GET", "sessions", Endpoint::List),
        ("GET", "sessions/ID", Endpoint::Session(ID)),
        ("POST", "sessions/ID/close", Endpoint::Close(ID)),
        ("GET", "sessions/ID/messages", Endpoint::Messages(ID)),
        ("POST", "sessions/ID/messages", Endpoint::Send(ID)),
        ("POST", "sessions/ID/mark-read", Endpoint::MarkRead(ID)),
        ("GET", "sessions/ID/participants", Endpoint::Participants(ID)),
        ("POST", "block", Endpoint::Block),
        ("POST", "unblock", Endpoint::Unblock),
        ("GET", "ws-stats", Endpoint::Census),
        // Nobody's id.
        ("GET", "sessions/nothing", Endpoint::Session(Uuid::nil())),
    ] {
        assert_eq!(found(method, rest), Some(Ok(expected)), "{method} {rest}");
    }
    for (method, rest, allow) in [
        ("PUT", "sessions", "GET, POST"),
        ("POST", "sessions/ID", "GET"),
        ("GET", "sessions/ID/close", "POST"),
        ("PATCH", "sessions/ID/messages", "GET, POST"),
        ("POST", "ws-stats", "GET"),
    ] {
        let Some(Err(error)) = found(method, rest) else { panic!("{method} {rest}") };
        assert_eq!((error.status, error.allow), (405, Some(allow)), "{method} {rest}");
    }
    for rest in ["", "ws", "ws/ID", "sessions/ID/nothing", "sessions/ID/messages/ID", "blocks", "sessionsx"] {
        assert_eq!(found("GET", rest), None, "{rest}");
    }
}

#[test]
fn who_is_connected_is_told_as_the_document_shows() {
    let list = vec![SessionCensus { session: ID, users: 2, typing: 1 }];
    let answer = census(&Census { sessions: 5, connections: 13, users: 12, list });
    let expected = format!(
        r#"{{"total_sessions":5,"total_connections":13,"average_users_per_session":2.4,"sessions":{{"{ID}":{{"user_count":2,"typing_count":1}}}}}}"#
    );
    assert_eq!((answer.status, String::from_utf8(answer.body)), (200, Ok(expected)));
    let answer = census(&Census { sessions: 3, connections: 4, users: 4, list: Vec::new() });
    let text = String::from_utf8(answer.body).expect("JSON is UTF-8");
    assert!(text.contains(r#""average_users_per_session":1.33,"#), "{text}");
}
