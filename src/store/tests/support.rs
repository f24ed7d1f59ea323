//! The ways that SQLite takes for sessions of `support`: along an index each, however long the history.

use super::*;
use crate::record::support::{Caller, ChatType, NewChatMessage, SupportAnswer, SupportQuery, SupportWrite};
use crate::store::support::read;

fn caller(user: &str) -> Caller {
    Caller { user: user.into(), is_agent: user.starts_with("agent") }
}

fn text(content: &str) -> NewChatMessage {
    NewChatMessage {
        kind: ChatType::Text,
        content: content.into(),
        reply_to: None,
        mentions: vec!["anna".into(), "nobody".into()],
        file: None,
    }
}

fn write(database: &mut Database, write: SupportWrite) -> SupportAnswer {
    match database.write(NOW, &Write::Support(write)) {
        Ok(Answer::Support(answer)) => *answer,
        other => panic!("{other:?}"),
    }
}

fn query(database: &mut Database, query: SupportQuery) -> SupportAnswer {
    match database.read(&Query::Support(query)) {
        Ok(Answer::Support(answer)) => *answer,
        other => panic!("{other:?}"),
    }
}

fn create(database: &mut Database, user: &str, agent: Option<&str>) -> Uuid {
    let what = SupportWrite::Create { by: caller(user), title: "Help".into(), agent: agent.map(Into::into) };
    match write(database, what) {
        SupportAnswer::Session(session) => session.id,
        other => panic!("{other:?}"),
    }
}

fn say(database: &mut Database, user: &str, session: Uuid, message: NewChatMessage) -> Uuid {
    match write(database, SupportWrite::Send { by: caller(user), session, message }) {
        SupportAnswer::Sent(message) => message.id,
        other => panic!("{other:?}"),
    }
}

/// So many messages of anna's, counted from 1.
fn long_history(database: &mut Database, session: Uuid, count: u32) {
    let connection = database.connection();
    let number: i64 = connection
        .query_row("SELECT number FROM support_sessions WHERE id = ?1", [session.to_string()], |row| {
            row.get(0)
        })
        .expect("it was made");
    let transaction = connection.transaction().expect("nothing else is under way");
    transaction
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
             INSERT INTO support_messages (id, session, place, sender, ordinal, type, content, created_at)
             SELECT printf('00000000-0000-7000-8000-%012x', i), ?1, i, 'anna', i, 'text', 'number ' || i, ?3 + i FROM n",
            params![number, count, NOW],
        )
        .expect("a valid statement");
    transaction
        .execute("UPDATE support_sessions SET messages = ?2 WHERE number = ?1", params![number, count])
        .expect("a valid statement");
    let said = "UPDATE support_participants SET said = ?2 WHERE session = ?1 AND user = 'anna'";
    transaction.execute(said, params![number, count]).expect("a valid statement");
    transaction.commit().expect("there is room");
}

#[test]
fn nothing_is_scanned_or_sorted() {
    let file = File::new();
    let mut database = file.open();
    for number in 0..20 {
        create(&mut database, &format!("user-{number}"), None);
        create(&mut database, "bert", Some("agent-1"));
    }
    let session = create(&mut database, "anna", Some("agent-1"));
    long_history(&mut database, session, 2_000);
    for blocked in ["x", "y", "z"] {
        write(&mut database, SupportWrite::Block { user: "bert".into(), blocked: blocked.into() });
    }
    let profiles = watch(&mut database);
    let first = say(&mut database, "agent-2", session, text("hello"));
    say(&mut database, "anna", session, NewChatMessage { reply_to: Some(first), ..text("answer") });
    write(&mut database, SupportWrite::Enter { by: caller("agent-1"), session });
    write(&mut database, SupportWrite::MarkRead { by: caller("agent-1"), session, message: first });
    write(&mut database, SupportWrite::Delivered { message: first });
    write(&mut database, SupportWrite::Block { user: "agent-1".into(), blocked: "agent-2".into() });
    write(&mut database, SupportWrite::MarkRead { by: caller("anna"), session, message: first });
    for user in ["anna", "agent-1", "agent-2"] {
        let by = caller(user);
        query(&mut database, SupportQuery::Session { by: by.clone(), session });
        query(&mut database, SupportQuery::Participants { by: by.clone(), session });
        query(&mut database, SupportQuery::Messages { by: by.clone(), session, limit: 50, offset: 10 });
        for closed in [None, Some(true), Some(false)] {
            query(&mut database, SupportQuery::Sessions { by: by.clone(), closed, limit: 10, offset: 3 });
        }
    }
    write(&mut database, SupportWrite::Unblock { user: "agent-1".into(), blocked: "agent-2".into() });
    write(&mut database, SupportWrite::Close { by: caller("anna"), session });
    let taken = take(&profiles);
    assert!(taken.len() > 60);
    let bad: Vec<_> =
        taken.iter().filter(|profile| profile.scanned + profile.sorted + profile.indexed > 0).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn every_reader_of_a_full_session_counts_whoever_blocks_whom() {
    let file = File::new();
    let mut database = file.open();
    let session = create(&mut database, "anna", None);
    long_history(&mut database, session, 300);
    let last = "00000000-0000-7000-8000-00000000012c".parse().expect("an id");
    let agents: Vec<String> = (1..64).map(|number| format!("agent-{number}")).collect();
    for agent in &agents {
        write(&mut database, SupportWrite::MarkRead { by: caller(agent), session, message: last });
        for blocked in agents.iter().filter(|other| *other != agent) {
            let blocked = blocked.as_str().into();
            write(&mut database, SupportWrite::Block { user: agent.as_str().into(), blocked });
        }
    }
    let by = caller("anna");
    let page = query(&mut database, SupportQuery::Messages { by, session, limit: 200, offset: 0 });
    let SupportAnswer::Messages(page) = page else { panic!("{page:?}") };
    assert!(page.len() == 200 && page.iter().all(|message| message.read_by == 63));
}

#[test]
fn every_page_and_every_message_costs_the_same() {
    let file = File::new();
    let mut database = file.open();
    let session = create(&mut database, "anna", Some("agent-1"));
    long_history(&mut database, session, 50_000);
    let profiles = watch(&mut database);
    let mut costs = Vec::new();
    for offset in [0, 25_000, 49_950] {
        let by = caller("agent-1");
        let page = query(&mut database, SupportQuery::Messages { by, session, limit: 50, offset });
        let SupportAnswer::Messages(page) = page else { panic!("{page:?}") };
        assert_eq!(page.len(), 50);
        assert_eq!(*page[49].said.content, *format!("number {}", 50_000 - offset));
        let taken = take(&profiles);
        costs.push(taken.iter().find(|profile| profile.sql == read::PAGE).expect("the page").steps);
    }
    assert!(costs.iter().max() <= costs.iter().min().map(|least| least + least / 20).as_ref(), "{costs:?}");
    // What is unread of it all is not counted message by message.
    let SupportAnswer::Session(seen) =
        query(&mut database, SupportQuery::Session { by: caller("agent-1"), session })
    else {
        panic!()
    };
    assert_eq!((seen.total, seen.unread), (50_000, 50_000));
    take(&profiles);
    say(&mut database, "agent-1", session, text("one more"));
    let steps: i32 = take(&profiles).iter().map(|profile| profile.steps).sum();
    assert!(steps < 2_000, "{steps}");
}
