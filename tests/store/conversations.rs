//! Conversations: who has which, in what order, and who is a contact of whom.

use fanfare::record::{Answer, Effect, Person, Query, Refusal, Write};
use smol_str::SmolStr;
use uuid::Uuid;

use crate::fixture::{Fixture, START, person, words};

#[test]
fn two_users_have_one_conversation_whoever_asks() {
    let mut store = Fixture::new();
    let (conversation, first) = store.create("anna", "bert").unwrap();
    assert!(first);
    assert_eq!(conversation.participants, [person("anna"), Person::unknown("bert")]);
    assert_eq!((conversation.created_at, conversation.last_activity), (START + 1, START + 1));
    assert_eq!((conversation.unread, &conversation.last_message), (0, &None));
    assert_eq!(conversation.id.get_version_num(), 7);
    let pair: [SmolStr; 2] = ["anna".into(), "bert".into()];
    let made = Effect::ConversationNew { conversation: conversation.id, participants: pair.clone() };
    assert_eq!(store.told(), [made]);

    let (again, first) = store.create("bert", "anna").unwrap();
    assert!(!first);
    assert_eq!((again.id, again.created_at), (conversation.id, conversation.created_at));
    assert_eq!(again.participants, [person("anna"), person("bert")]);

    let by_backend = Write::CreateConversation { by: None, participants: ["bert".into(), "anna".into()] };
    let Answer::Conversation { conversation: third, first } = store.write(by_backend).unwrap() else {
        panic!()
    };
    assert_eq!((third.id, third.participants, first), (conversation.id, again.participants, false));
    assert_eq!(store.told(), [], "nobody is told of what is not new");

    store.restart();
    let (again, first) = store.create("anna", "bert").unwrap();
    assert_eq!((again.id, first), (conversation.id, false));
}

#[test]
fn nobody_converses_with_himself_or_in_the_name_of_others() {
    let mut store = Fixture::new();
    let refused = store.create("anna", "anna").unwrap_err();
    assert!(matches!(refused, Refusal::Invalid { field: "participant_id", .. }), "{refused:?}");
    let for_others =
        Write::CreateConversation { by: Some(person("eve")), participants: ["anna".into(), "bert".into()] };
    assert_eq!(store.write(for_others), Err(Refusal::Forbidden));
    assert!(store.conversations("anna", 10, None).is_empty());
    assert_eq!(store.told(), []);
}

#[test]
fn only_participants_touch_a_conversation() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    let message = store.say("anna", conversation, "hello").id;
    let eve = || person("eve");
    let forbidden = Err(Refusal::Forbidden);
    assert_eq!(
        store.write(Write::Send { by: Some(eve()), conversation, message: words("let me in") }),
        forbidden
    );
    assert_eq!(store.write(Write::Read { by: eve(), conversation, message }), forbidden);
    assert_eq!(store.write(Write::Delete { by: eve(), conversation, message }), forbidden);
    assert_eq!(store.write(Write::Delivered { to: "eve".into(), conversation, message }), forbidden);
    let participants = |user: &str| Query::Participants { user: Some(user.into()), conversation };
    assert_eq!(store.read(participants("eve")), forbidden);
    let both = Ok(Answer::Participants(["anna".into(), "bert".into()]));
    assert_eq!(store.read(participants("bert")), both);
    assert_eq!(store.read(Query::Participants { user: None, conversation }), both);
    assert_eq!(store.page("eve", conversation, 10, None), Err(Refusal::Forbidden));

    let unknown = Uuid::now_v7();
    let nowhere = Err(Refusal::NotFound("conversation"));
    assert_eq!(
        store.write(Write::Send { by: Some(eve()), conversation: unknown, message: words("?") }),
        nowhere
    );
    assert_eq!(store.write(Write::Send { by: None, conversation: unknown, message: words("?") }), nowhere);
    assert_eq!(store.see("anna", unknown, message), nowhere);
    assert_eq!(store.delete("anna", unknown, message), nowhere);
    assert_eq!(store.read(Query::Participants { user: None, conversation: unknown }), nowhere);
    assert_eq!(store.page("anna", unknown, 10, None), Err(Refusal::NotFound("conversation")));

    let no_message = Err(Refusal::NotFound("message"));
    assert_eq!(store.see("anna", conversation, unknown), no_message);
    assert_eq!(store.delete("anna", conversation, unknown), no_message);
    assert_eq!(store.page("anna", conversation, 10, Some(unknown)), Err(Refusal::NotFound("message")));
    let elsewhere = store.converse("anna", "eve");
    assert_eq!(store.see("anna", elsewhere, message), no_message, "a message of another conversation");
    assert_eq!(store.delete("anna", elsewhere, message), no_message);
    assert_eq!(store.page("anna", elsewhere, 10, Some(message)), Err(Refusal::NotFound("message")));
}

#[test]
fn lists_show_the_newest_activity_first() {
    let mut store = Fixture::new();
    let ids: Vec<Uuid> =
        ["bert", "cleo", "dora", "emil"].iter().map(|other| store.converse("anna", other)).collect();
    let order = |store: &mut Fixture| -> Vec<Uuid> {
        store.conversations("anna", 100, None).iter().map(|conversation| conversation.id).collect()
    };
    assert_eq!(order(&mut store), [ids[3], ids[2], ids[1], ids[0]]);
    store.say("bert", ids[0], "here I am");
    let said = store.say("anna", ids[2], "and you?");
    assert_eq!(order(&mut store), [ids[2], ids[0], ids[3], ids[1]]);
    assert_eq!(store.contacts("anna"), ["dora", "bert", "emil", "cleo"]);
    assert_eq!(store.contacts("dora"), ["anna"]);
    assert!(store.contacts("nobody").is_empty());

    let listed = store.conversations("dora", 10, None);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].unread, 1);
    assert_eq!(listed[0].last_message.as_ref(), Some(&said));
    assert_eq!(listed[0].last_activity, said.created_at);
    let with_bert = &store.conversations("anna", 10, None)[1];
    assert_eq!(with_bert.participants, [person("anna"), person("bert")]);

    let first = store.conversations("anna", 3, None);
    let second = store.conversations("anna", 3, Some(first[2].cursor));
    assert_eq!((first.len(), second.len()), (3, 1));
    assert_eq!(second[0].id, ids[1]);
    assert!(store.conversations("anna", 3, Some(second[0].cursor)).is_empty());
}

#[test]
fn a_list_has_each_conversation_once_even_in_one_millisecond_and_with_new_ones() {
    let mut store = Fixture::new();
    let mut expected = Vec::new();
    for other in 0..30 {
        store.now = START;
        expected.insert(0, store.converse("anna", &format!("other-{other:02}")));
    }
    let (mut found, mut before) = (Vec::new(), None);
    for step in 0.. {
        let page = store.conversations("anna", 4, before);
        let Some(last) = page.last() else { break };
        before = Some(last.cursor);
        found.extend(page.iter().map(|conversation| conversation.id));
        store.now = START + 10 + step;
        store.converse("anna", &format!("late-{step}"));
        // One that was listed before, and moves to the front.
        store.say("anna", found[0], "again");
    }
    assert_eq!(found, expected);
}

#[test]
fn an_older_clock_does_not_turn_the_order_back() {
    let mut store = Fixture::new();
    let first = store.converse("anna", "bert");
    let second = store.converse("anna", "cleo");
    store.say("anna", first, "now");
    store.now = START - 1_000_000;
    store.say("anna", first, "before");
    let listed = store.conversations("anna", 10, None);
    assert_eq!([listed[0].id, listed[1].id], [first, second]);
    assert_eq!(&*listed[0].last_message.as_ref().unwrap().content, "before");
}
