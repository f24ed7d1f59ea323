//! Two users of the app `conversation` who have a conversation, and requests over HTTP as a user.

use serde_json::{Value, json};
use uuid::Uuid;

use super::http::{self, Response};
use super::token::{sign, token_with};
use super::{Broker, Client, Publisher};

/// The token of a user whose name is the id with a capital letter.
pub fn chat_token(user: &str) -> String {
    let (first, rest) = user.split_at(1);
    token_with(user, json!({ "username": format!("{}{rest}", first.to_uppercase()) }))
}

impl Client {
    /// `GET /ws` with this token in `Authorization`; `connection:established` has been taken.
    #[track_caller]
    pub fn chat_with(broker: &Broker, token: &str) -> Client {
        let mut client = Client::open(broker.public, "/ws", &[("Authorization", &format!("Bearer {token}"))]);
        let established = client.next();
        assert_eq!(established["event"], "connection:established", "{established}");
        client
    }

    /// Sends an event of the app `conversation` that must be refused with this code; returns the error's data.
    #[track_caller]
    pub fn chat_refused(&mut self, event: &str, data: Value, code: &str) -> Value {
        self.send(event, data);
        let error = self.next();
        assert_eq!(error["event"], "error", "{error}");
        let error = error["data"].clone();
        assert_eq!((&error["code"], &error["request_event"]), (&json!(code), &json!(event)), "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty() && error["details"].is_object(), "{error}");
        error
    }
}

impl Broker {
    /// A client of the app `conversation`.
    #[track_caller]
    pub fn chat(&self, user: &str) -> Client {
        Client::chat_with(self, &chat_token(user))
    }

    /// A request to the public port as a user; `body` null: none.
    #[track_caller]
    pub fn rest(&self, user: &str, method: &str, path: &str, body: &Value) -> Response {
        let authorization = format!("Bearer {}", chat_token(user));
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        http::request(self.public, method, path, &headers, body.as_bytes())
    }

    /// Makes the conversation of two users, or finds it; returns its id.
    #[track_caller]
    pub fn conversation(&self, by: &str, with: &str) -> String {
        let response = self.rest(by, "POST", "/api/v1/conversations", &json!({ "participant_id": with }));
        assert!(matches!(response.status, 200 | 201), "{response:?}");
        response.json()["id"].as_str().unwrap().to_owned()
    }

    /// The newest messages of a conversation as the user reads them, newest first.
    #[track_caller]
    pub fn history(&self, user: &str, conversation: &str) -> Vec<Value> {
        let path = format!("/api/v1/conversations/{conversation}/messages");
        let response = self.rest(user, "GET", &path, &Value::Null);
        assert_eq!(response.status, 200, "{response:?}");
        response.json()["messages"].as_array().unwrap().clone()
    }

    /// What a user has not read in a conversation.
    #[track_caller]
    pub fn unread(&self, user: &str, conversation: &str) -> u64 {
        let list = self.rest(user, "GET", "/api/v1/conversations", &Value::Null).json();
        let list = list["conversations"].as_array().unwrap();
        let found = list.iter().find(|found| found["id"] == conversation).unwrap();
        found["unread_count"].as_u64().unwrap()
    }
}

/// A broker and two users who have a conversation and are connected; neither has anything to take.
pub struct Chat {
    pub broker: Broker,
    pub ada: Client,
    pub bob: Client,
    /// The conversation.
    pub id: String,
    publisher: Publisher,
    markers: u64,
}

impl Chat {
    #[track_caller]
    pub fn start(lines: &[&str]) -> Chat {
        Chat::on(Broker::start(lines))
    }

    #[track_caller]
    pub fn on(broker: Broker) -> Chat {
        let id = broker.conversation("ada", "bob");
        let ada = broker.chat("ada");
        let mut publisher = broker.publisher();
        // The router knows her before he comes.
        let mut chat = {
            let mut ada = ada;
            before_marker(&mut publisher, &mut ada, "ada", 0);
            let bob = broker.chat("bob");
            Chat { broker, ada, bob, id, publisher, markers: 0 }
        };
        assert_eq!(chat.ada.next()["event"], "user:online");
        // If he was very quick, he was told that she has come.
        assert!(chat.before_bob().iter().all(|message| message["event"] == "user:online"));
        chat
    }

    /// Everything that has come to ada of what was published so far.
    #[track_caller]
    pub fn before_ada(&mut self) -> Vec<Value> {
        self.markers += 1;
        before_marker(&mut self.publisher, &mut self.ada, "ada", self.markers)
    }

    /// Everything that has come to bob of what was published so far.
    #[track_caller]
    pub fn before_bob(&mut self) -> Vec<Value> {
        self.markers += 1;
        before_marker(&mut self.publisher, &mut self.bob, "bob", self.markers)
    }

    /// Asserts that nothing has come to either of what was published so far.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        assert_eq!((self.before_ada(), self.before_bob()), (Vec::new(), Vec::new()));
    }

    /// `{conversation_id}`
    pub fn here(&self) -> Value {
        json!({ "conversation_id": self.id })
    }

    /// `{conversation_id, message_id}`
    pub fn at(&self, message: &str) -> Value {
        json!({ "conversation_id": self.id, "message_id": message })
    }

    /// The data of a text.
    pub fn text(&self, content: &str) -> Value {
        json!({ "conversation_id": self.id, "content": content, "type": "text" })
    }

    /// Both have joined the conversation.
    #[track_caller]
    pub fn join(&mut self) {
        let here = self.here();
        for client in [&mut self.ada, &mut self.bob] {
            client.ask("conversation:join", here.clone(), "conversation:joined");
        }
    }

    /// Ada says something, and both take all that comes of it. Returns the message.
    #[track_caller]
    pub fn say(&mut self, data: Value) -> Value {
        self.ada.send("message:send", data);
        let new = self.ada.next();
        assert_eq!(new["event"], "message:new", "{new}");
        assert_eq!(self.bob.next()["data"], new["data"]);
        let delivered = self.ada.next();
        assert_eq!(delivered["event"], "message:delivered", "{delivered}");
        assert_eq!(delivered["data"]["message_id"], new["data"]["message"]["id"]);
        assert!(self.before_bob().iter().all(|message| message["event"] == "conversation:unread"));
        new["data"]["message"].clone()
    }

    /// As [`Chat::say`], a text; returns the message's id.
    #[track_caller]
    pub fn say_text(&mut self, content: &str) -> String {
        let data = self.text(content);
        id(&self.say(data))
    }
}

/// The id of an object.
#[track_caller]
pub fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

/// What comes to a client before an event that is published for its user now.
#[track_caller]
pub fn before_marker(publisher: &mut Publisher, client: &mut Client, user: &str, number: u64) -> Vec<Value> {
    let marker = json!(format!("marker {number} {}", Uuid::now_v7()));
    publisher.publish(json!({ "user": user, "event": "marker", "data": marker }));
    let mut before = Vec::new();
    loop {
        let message = client.next();
        if message["event"] != "marker" {
            before.push(message);
        } else if message["data"] == marker {
            return before;
        }
    }
}

/// A text of the server's with its ids and times replaced: `<id>`, `<time>`; those in `names` by their names.
pub fn shape(text: &str, names: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (id, name) in names {
        text = text.replace(id, name);
    }
    let (mut shape, mut rest) = (String::new(), text.as_str());
    while let Some(next) = rest.chars().next() {
        if rest.get(..36).is_some_and(|id| Uuid::try_parse(id).is_ok()) {
            shape.push_str("<id>");
            rest = &rest[36..];
        } else if rest.get(..20).is_some_and(is_time) {
            shape.push_str("<time>");
            rest = &rest[20..];
        } else {
            shape.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    shape
}

/// `2025-05-20T14:30:00Z`, without a fraction (decision 3).
fn is_time(text: &str) -> bool {
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).eq("0000-00-00T00:00:00Z".chars())
}

/// A token of a user with this many seconds to go.
pub fn chat_token_for(user: &str, seconds: u64) -> String {
    sign(json!({ "sub": user, "exp": super::token::now() + seconds, "username": user }))
}
