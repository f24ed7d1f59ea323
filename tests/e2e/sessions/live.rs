//! What participants are told while they are connected.

use serde_json::{Value, json};

use super::{agent_token, ask, call, connect, connect_with, feed, next, says, session, shape};
use crate::support::token::token;
use crate::support::{Broker, Client, each_shard_count, eventually};

#[test]
fn frames_are_those_of_the_document() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", Some("gus"));
        let mut ada =
            Client::open(broker.public, &format!("/api/v1/chat/ws/{id}?token={}", token("ada")), &[]);
        let names = [(id.as_str(), "SESSION")];
        let expect = |client: &mut Client, text: &str| assert_eq!(shape(&client.next_text(), &names), text);
        let joined = r#"{"message_type":"user_joined","chat_session_id":"SESSION","user_id":"ada","timestamp":"TIME","metadata":{"total_users":1}}"#;
        expect(&mut ada, joined);
        let gus = connect_with(&broker, &agent_token("gus"), &id);
        expect(
            &mut ada,
            &joined.replace("\"ada\"", "\"gus\"").replace("\"total_users\":1", "\"total_users\":2"),
        );
        let mut gus = gus;
        gus.text(json!({ "message_type": "typing", "content": "true" }));
        let typing = r#"{"message_type":"typing_indicator","chat_session_id":"SESSION","user_id":"gus","timestamp":"TIME","metadata":{"is_typing":true}}"#;
        expect(&mut ada, typing);
        gus.text(json!({ "message_type": "typing", "content": "false" }));
        expect(&mut ada, &typing.replace("true", "false"));
        gus.text(json!({
            "message_type": "text", "content": "Hello, how can I help you?",
            "reply_to_id": null, "mentions": ["ada", "nobody", "gus", "ada"],
        }));
        let said = r#"{"message_type":"message","chat_session_id":"SESSION","user_id":"gus","content":"Hello, how can I help you?","timestamp":"TIME","metadata":{"message_id":"ID","reply_to_id":null,"mentions":["ada","gus"]}}"#;
        expect(&mut ada, said);
        // The sender too, and nothing of his own typing.
        let own = next(&mut gus, "message");
        let message = own["metadata"]["message_id"].as_str().unwrap().to_owned();
        ada.text(json!({
            "message_type": "file", "content": "Receipt.pdf",
            "file_url": "https://bucket.s3.amazonaws.com/files/receipt.pdf", "file_name": "Receipt.pdf",
            "file_size": 245000, "file_type": "application/pdf", "reply_to_id": message,
        }));
        let file = r#"{"message_type":"message","chat_session_id":"SESSION","user_id":"ada","content":"Receipt.pdf","timestamp":"TIME","metadata":{"message_id":"ID","reply_to_id":"ID","mentions":[],"file_url":"https://bucket.s3.amazonaws.com/files/receipt.pdf","file_name":"Receipt.pdf","file_size":245000,"file_type":"application/pdf"}}"#;
        expect(&mut gus, file);
        expect(&mut ada, file);
        // Size and type may be missing, as in the document's own client.
        ada.text(json!({ "message_type": "image", "content": "Cat", "file_url": "http://a.example/c", "file_name": "c" }));
        let metadata = next(&mut gus, "message")["metadata"].clone();
        assert!(metadata["file_size"].is_null() && metadata["file_type"].is_null(), "{metadata}");
        next(&mut ada, "message");
        let read = json!({ "up_to_message_id": metadata["message_id"] });
        let path = format!("/sessions/{id}/mark-read");
        assert_eq!(ask(&broker, &agent_token("gus"), "POST", &path, read).status, 200);
        let read = r#"{"message_type":"message_read","chat_session_id":"SESSION","user_id":"gus","timestamp":"TIME","metadata":{"up_to_message_id":"ID"}}"#;
        expect(&mut ada, read);
        gus.close();
        let left = r#"{"message_type":"user_left","chat_session_id":"SESSION","user_id":"gus","timestamp":"TIME","metadata":{"total_users":1}}"#;
        expect(&mut ada, left);
    });
}

#[test]
fn several_connections_of_one_user_count_once() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", Some("gus"));
        let mut gus = connect_with(&broker, &agent_token("gus"), &id);
        let first = connect(&broker, "ada", &id);
        assert_eq!(next(&mut gus, "user_joined")["metadata"]["total_users"], 2);
        // Others of hers are told how many there are, and nobody else anything.
        let mut others: Vec<Client> = (0..4).map(|_| connect(&broker, "ada", &id)).collect();
        first.close();
        let last = others.pop().unwrap();
        others.into_iter().for_each(Client::close);
        says(&mut gus, "still there?");
        assert_eq!(next(&mut gus, "message")["content"], "still there?");
        last.close();
        let left = next(&mut gus, "user_left");
        assert_eq!((&left["user_id"], &left["metadata"]["total_users"]), (&json!("ada"), &json!(1)));
    });
}

#[test]
fn typing_ends_by_itself_and_with_the_connection_and_others_only_see_it() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", Some("gus"));
        let mut gus = connect_with(&broker, &agent_token("gus"), &id);
        let (mut one, mut two) = (connect(&broker, "ada", &id), connect(&broker, "ada", &id));
        next(&mut gus, "user_joined");
        let typing = |content: &str| json!({ "message_type": "typing", "content": content });
        one.text(typing("true"));
        assert_eq!(next(&mut gus, "typing_indicator")["metadata"]["is_typing"], true);
        // While another connection of hers types too, she has not stopped.
        two.text(typing("true"));
        says(&mut two, "both");
        next(&mut gus, "message");
        next(&mut one, "message");
        next(&mut two, "message");
        one.close();
        says(&mut two, "one");
        assert_eq!(next(&mut gus, "message")["content"], "one");
        // Five seconds without a word.
        let ended = next(&mut gus, "typing_indicator");
        assert_eq!(ended["metadata"]["is_typing"], false);
        next(&mut two, "message");
        two.text(typing("true"));
        assert_eq!(next(&mut gus, "typing_indicator")["metadata"]["is_typing"], true);
        two.close();
        assert_eq!(next(&mut gus, "typing_indicator")["metadata"]["is_typing"], false);
        assert_eq!(next(&mut gus, "user_left")["metadata"]["total_users"], 1);
    });
}

#[test]
fn a_feed_has_the_events_of_all_own_sessions_and_may_speak_in_them() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let (one, two) = (session(&broker, "ada", Some("gus")), session(&broker, "ada", None));
        let other = session(&broker, "eve", None);
        let mut all = feed(&broker, "ada");
        let mut eve = connect(&broker, "eve", &other);
        says(&mut eve, "not hers");
        next(&mut eve, "message");
        let mut gus = connect_with(&broker, &agent_token("gus"), &one);
        let joined = next(&mut all, "user_joined");
        assert_eq!((&joined["chat_session_id"], &joined["user_id"]), (&json!(one), &json!("gus")));
        all.text(json!({ "message_type": "typing", "content": "true", "chat_session_id": one }));
        assert_eq!(next(&mut gus, "typing_indicator")["user_id"], "ada");
        gus.text(json!({ "message_type": "typing", "content": "true" }));
        assert_eq!(next(&mut all, "typing_indicator")["user_id"], "gus");
        for id in [&one, &two] {
            all.text(json!({ "message_type": "text", "content": id, "chat_session_id": id }));
            let said = next(&mut all, "message");
            assert_eq!((&said["chat_session_id"], &said["content"]), (&json!(id), &json!(id)));
        }
        assert_eq!(next(&mut gus, "message")["content"], json!(one));
        // Without a session, and with one that is not hers.
        says(&mut all, "where?");
        assert_eq!(next(&mut all, "error")["metadata"]["code"], "VALIDATION_ERROR");
        for kind in ["text", "typing"] {
            all.text(json!({ "message_type": kind, "content": "true", "chat_session_id": other }));
            let error = next(&mut all, "error")["metadata"].clone();
            assert_eq!((&error["code"], &error["request_event"]), (&json!("FORBIDDEN"), &json!(kind)));
        }
        call(&broker, "ada", "POST", &format!("/sessions/{two}/close"), Value::Null, 200);
        let closed = next(&mut all, "session_closed");
        assert_eq!(closed["chat_session_id"], json!(two));
        // It goes on.
        says(&mut gus, "still here");
        assert_eq!(next(&mut all, "message")["content"], "still here");
    });
}

#[test]
fn backends_events_have_their_name_as_type() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", None);
        let mut ada = connect(&broker, "ada", &id);
        let mut backend = broker.publisher();
        backend.send(r#"{"user":"ada","event":"balanceUpdated","data":{"b":1.50,"a":[]},"app":"support"}"#);
        let text = ada.next_text();
        let expected = r#"{"message_type":"balanceUpdated","chat_session_id":null,"user_id":"ada","timestamp":"TIME","metadata":{"b":1.50,"a":[]}}"#;
        assert_eq!(shape(&text, &[]), expected);
        backend.send(r#"{"user":"eve","event":"x","data":1}"#);
        backend.send(r#"{"broadcast":true,"event":"notice","data":"all"}"#);
        let notice = next(&mut ada, "notice");
        assert_eq!((&notice["user_id"], &notice["metadata"]), (&Value::Null, &json!("all")));
    });
}

#[test]
fn a_blocked_user_reaches_the_blocker_on_no_way() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", Some("gus"));
        let eve_token = agent_token("eve");
        let (mut ada, mut all) = (connect(&broker, "ada", &id), feed(&broker, "ada"));
        let mut gus = connect_with(&broker, &agent_token("gus"), &id);
        let mut eve = connect_with(&broker, &eve_token, &id);
        let path = format!("/sessions/{id}/messages");
        let contents = |user: &str, query: &str| -> Vec<String> {
            let page = call(&broker, user, "GET", &format!("{path}{query}"), Value::Null, 200);
            let content = |message: &Value| message["content"].as_str().unwrap().to_owned();
            page.as_array().unwrap().iter().map(content).collect()
        };
        says(&mut eve, "before");
        gus.until(|frame| frame["content"] == "before");
        assert_eq!(contents("ada", ""), ["before"]);
        let blocked = call(&broker, "ada", "POST", "/block", json!({ "user_id": "eve" }), 200);
        assert_eq!(blocked, json!({ "success": true, "message": "User blocked" }));
        eve.text(json!({ "message_type": "typing", "content": "true" }));
        gus.until(|frame| frame["message_type"] == "typing_indicator");
        says(&mut eve, "socket");
        gus.until(|frame| frame["content"] == "socket");
        let over_http = json!({ "message_type": "text", "content": "http" });
        assert_eq!(ask(&broker, &eve_token, "POST", &path, over_http).status, 201);
        gus.until(|frame| frame["content"] == "http");
        says(&mut gus, "after");
        for client in [&mut ada, &mut all] {
            loop {
                let frame = client.next();
                let is_hers = frame["user_id"] == "eve" && frame["message_type"] != "user_joined";
                assert!(!is_hers || frame["content"] == "before", "{frame}");
                if frame["content"] == "after" {
                    break;
                }
            }
        }
        assert_eq!(contents("ada", ""), ["after"]);
        assert_eq!(contents("ada", "?offset=1"), [""; 0]);
        let seen = call(&broker, "ada", "GET", &format!("/sessions/{id}"), Value::Null, 200);
        assert_eq!((&seen["total_messages"], &seen["unread_count"]), (&json!(1), &json!(1)));
        // The others are not concerned.
        assert_eq!(ask(&broker, &eve_token, "GET", &path, Value::Null).json().as_array().unwrap().len(), 4);
        // And as the blocker hears him again, he finds what was said.
        let freed = call(&broker, "ada", "POST", "/unblock", json!({ "user_id": "eve" }), 200);
        assert_eq!(freed, json!({ "success": true, "message": "User unblocked" }));
        assert_eq!(contents("ada", ""), ["before", "socket", "http", "after"]);
        assert_eq!(contents("ada", "?limit=2&offset=1"), ["socket", "http"]);
        says(&mut eve, "again");
        ada.until(|frame| frame["content"] == "again");
    });
}

#[test]
fn what_is_hidden_is_named_to_nobody_from_whom_it_is_hidden() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", Some("gus"));
        let (gus_token, eve_token) = (agent_token("gus"), agent_token("eve"));
        let mut eve = connect_with(&broker, &eve_token, &id);
        call(&broker, "ada", "POST", "/block", json!({ "user_id": "eve" }), 200);
        let (mut ada, mut all) = (connect(&broker, "ada", &id), feed(&broker, "ada"));
        let messages = format!("/sessions/{id}/messages");
        let say = |token: &str| {
            let said = ask(&broker, token, "POST", &messages, json!({ "content": "hello" }));
            said.json()["id"].as_str().unwrap().to_owned()
        };
        let read = |token: &str, message: &str| {
            let body = json!({ "up_to_message_id": message });
            let answer = ask(&broker, token, "POST", &format!("/sessions/{id}/mark-read"), body);
            (answer.status, answer.json()["error"]["code"].clone())
        };
        let known = say(&token("ada"));
        let first = say(&eve_token);
        let done = (200, Value::Null);
        // By the one who said it; by another; and once more, where there is nothing new that she knows.
        assert_eq!(read(&eve_token, &first), done);
        assert_eq!(read(&gus_token, &first), done);
        let hidden = say(&eve_token);
        assert_eq!(read(&gus_token, &hidden), done);
        let last = say(&gus_token);
        for client in [&mut ada, &mut all] {
            let mut marks = Vec::new();
            loop {
                let frame = client.next();
                match frame["message_type"].as_str().unwrap() {
                    "message_read" => marks.push((
                        frame["user_id"].as_str().unwrap().to_owned(),
                        frame["metadata"]["up_to_message_id"].as_str().unwrap().to_owned(),
                    )),
                    "message" if frame["metadata"]["message_id"] == last.as_str() => break,
                    _ => {}
                }
            }
            assert_eq!(marks, [("gus".to_owned(), known.clone())]);
        }
        // Who is not concerned is told what was read.
        let mark = eve.until(|frame| frame["message_type"] == "message_read" && frame["user_id"] == "gus");
        assert_eq!(mark["metadata"]["up_to_message_id"], first.as_str());
        // Nor is it of any use to know it.
        assert_eq!(read(&token("ada"), &hidden), (404, json!("NOT_FOUND")));
        let reply = json!({ "content": "to what?", "reply_to_id": hidden });
        call(&broker, "ada", "POST", &messages, reply.clone(), 404);
        ada.text(json!({ "message_type": "text", "content": "to what?", "reply_to_id": hidden }));
        assert_eq!(next(&mut ada, "error")["metadata"]["code"], "NOT_FOUND");
        call(&broker, "ada", "POST", "/unblock", json!({ "user_id": "eve" }), 200);
        call(&broker, "ada", "POST", &messages, reply, 201);
    });
}

#[test]
fn a_closed_session_ends_its_connections_and_takes_no_message() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", Some("gus"));
        let mut clients = vec![connect_with(&broker, &agent_token("gus"), &id)];
        clients.extend((0..3).map(|_| connect(&broker, "ada", &id)));
        let path = format!("/sessions/{id}/close");
        let closed = call(&broker, "ada", "POST", &path, Value::Null, 200);
        assert_eq!(closed, json!({ "success": true, "message": "Session closed" }));
        for mut client in clients {
            let before = client.expect_close(1000);
            let last = before.last().unwrap();
            assert_eq!((&last["message_type"], &last["user_id"]), (&json!("session_closed"), &json!("ada")));
        }
        // Once more changes nothing.
        call(&broker, "ada", "POST", &path, Value::Null, 200);
        let seen = call(&broker, "ada", "GET", &format!("/sessions/{id}"), Value::Null, 200);
        assert_eq!(seen["status"], "closed");
        assert!(seen["closed_at"].is_string());
        let mut ada = connect(&broker, "ada", &id);
        for message in [
            json!({ "message_type": "text", "content": "hello?" }),
            json!({ "message_type": "typing", "content": "true" }),
        ] {
            ada.text(message);
            assert_eq!(next(&mut ada, "error")["metadata"]["code"], "FORBIDDEN");
        }
        call(
            &broker,
            "ada",
            "POST",
            &format!("/sessions/{id}/messages"),
            json!({ "content": "hello?" }),
            403,
        );
        // An agent who took no part in it may read it, and no more.
        let mut eve =
            Client::open(broker.public, &format!("/api/v1/chat/ws/{id}?token={}", agent_token("eve")), &[]);
        eve.expect_close(1008);
        let read = ask(&broker, &agent_token("eve"), "GET", &format!("/sessions/{id}/messages"), Value::Null);
        assert_eq!(read.status, 200);
    });
}

#[test]
fn agents_become_participants_of_what_they_join() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", None);
        let mut ada = connect(&broker, "ada", &id);
        let gus = connect_with(&broker, &agent_token("gus"), &id);
        assert_eq!(next(&mut ada, "user_joined")["user_id"], "gus");
        let path = format!("/sessions/{id}/participants");
        let list = call(&broker, "ada", "GET", &path, Value::Null, 200);
        let roles: Vec<_> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["user_id"].as_str().unwrap(), one["role"].as_str().unwrap()))
            .collect();
        assert_eq!(roles, [("ada", "user"), ("gus", "agent")]);
        let seen = call(&broker, "ada", "GET", &format!("/sessions/{id}"), Value::Null, 200);
        assert!(seen["started_at"].is_string() && seen["assigned_agent_id"].is_null(), "{seen}");
        // He hears of it, although he is gone, and comes back without the role.
        gus.close();
        next(&mut ada, "user_left");
        let mut gus = connect(&broker, "gus", &id);
        says(&mut ada, "welcome back");
        assert_eq!(next(&mut gus, "message")["content"], "welcome back");
    });
}

#[test]
fn a_message_is_sent_then_delivered_then_read() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.control = \"off\""]);
        let id = session(&broker, "ada", Some("gus"));
        let path = format!("/sessions/{id}/messages");
        let status = || {
            let page = call(&broker, "ada", "GET", &path, Value::Null, 200);
            (page[0]["status"].clone(), page[0]["read_by_count"].clone())
        };
        let said = call(&broker, "ada", "POST", &path, json!({ "content": "anybody?" }), 201);
        assert_eq!(status(), (json!("sent"), json!(0)));
        let gus = agent_token("gus");
        let mut client = connect_with(&broker, &gus, &id);
        let second = call(&broker, "ada", "POST", &path, json!({ "content": "hello" }), 201);
        next(&mut client, "message");
        eventually("the receipt", || {
            let page = call(&broker, "ada", "GET", &path, Value::Null, 200);
            (page[1]["status"] == "delivered").then_some(())
        });
        let read = json!({ "up_to_message_id": said["id"] });
        let mark = format!("/sessions/{id}/mark-read");
        assert_eq!(ask(&broker, &gus, "POST", &mark, read).status, 200);
        assert_eq!(status(), (json!("read"), json!(1)));
        let page = call(&broker, "ada", "GET", &path, Value::Null, 200);
        assert_eq!((&page[1]["id"], &page[1]["status"]), (&second["id"], &json!("delivered")));
    });
}

#[test]
fn a_message_has_one_receipt_however_many_get_it() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards]);
        let id = session(&broker, "ada", None);
        let mut clients = vec![connect(&broker, "ada", &id), feed(&broker, "ada")];
        clients.extend(["gus", "zoe", "eve"].map(|user| connect_with(&broker, &agent_token(user), &id)));
        let mut requests = broker.metric("fanfare_store_requests_total", &[]);
        for number in 0..5 {
            let content = format!("number {number}");
            says(&mut clients[0], &content);
            for client in &mut clients {
                client.until(|frame| frame["content"] == content.as_str());
            }
            // The message, and that it was delivered.
            requests += 2.0;
            broker.wait_for_metric("fanfare_store_requests_total", &[], requests);
        }
        let path = format!("/sessions/{id}/messages");
        let page = call(&broker, "ada", "GET", &path, Value::Null, 200);
        assert!(page.as_array().unwrap().iter().all(|message| message["status"] == "delivered"), "{page}");
    });
}

/// Says something in a session that is being closed. Whether it was taken.
fn speak_while_it_closes(address: std::net::SocketAddr, id: &str, token: &str, content: &str) -> bool {
    let mut client = Client::open(address, &format!("/api/v1/chat/ws/{id}?token={token}"), &[]);
    says(&mut client, content);
    let (mut is_taken, mut is_told) = (false, false);
    loop {
        match client.try_frame() {
            Ok(tungstenite::Message::Text(text)) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                match frame["message_type"].as_str().unwrap() {
                    "message" => is_taken |= frame["content"] == content,
                    "session_closed" => is_told = true,
                    "error" => {
                        assert_eq!(frame["metadata"]["code"], "FORBIDDEN");
                        return false;
                    }
                    _ => {}
                }
            }
            Ok(tungstenite::Message::Close(frame)) => {
                assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1000));
                assert!(is_told, "closed without a word");
                return is_taken;
            }
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_session_that_closes_while_clients_come_forgets_none_of_them() {
    each_shard_count(|shards| {
        let broker = Broker::start(&[shards, "limits.messages = \"off\"", "limits.control = \"off\""]);
        for round in 0..6 {
            let id = session(&broker, "ada", Some("gus"));
            let tokens = [token("ada"), agent_token("gus")];
            let contents: Vec<String> = (0..10).map(|number| format!("number {number}")).collect();
            let taken: Vec<&String> = std::thread::scope(|scope| {
                let speakers: Vec<_> = (0..10)
                    .map(|number| {
                        let (id, token, address) = (&id, &tokens[number % 2], broker.public);
                        let content = &contents[number];
                        scope.spawn(move || {
                            speak_while_it_closes(address, id, token, content).then_some(content)
                        })
                    })
                    .collect();
                // At another moment each time.
                std::thread::sleep(std::time::Duration::from_millis(round * 3));
                call(&broker, "ada", "POST", &format!("/sessions/{id}/close"), Value::Null, 200);
                speakers.into_iter().filter_map(|speaker| speaker.join().unwrap()).collect()
            });
            let page = call(&broker, "ada", "GET", &format!("/sessions/{id}/messages"), Value::Null, 200);
            let is_there = |content: &&String| {
                page.as_array().unwrap().iter().any(|message| message["content"] == content.as_str())
            };
            assert!(taken.iter().all(is_there), "{taken:?} {page}");
            eventually("nobody", || {
                let stats = call(&broker, "ada", "GET", "/ws-stats", Value::Null, 200);
                (stats["total_connections"] == 0).then_some(())
            });
        }
    });
}
