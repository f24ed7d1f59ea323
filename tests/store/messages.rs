//! Messages: said, repeated, read, delivered, deleted.

use std::fs;

use fanfare::record::{Answer, Effect, MessageType, NewMessage, Person, Refusal, Write};
use smol_str::SmolStr;

use crate::fixture::{Directory, Fixture, named, person, words};

fn pair() -> [SmolStr; 2] {
    ["anna".into(), "bert".into()]
}

#[test]
fn a_message_goes_to_both_and_is_unread_for_the_other() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    store.told();
    let new =
        NewMessage { metadata: Some(r#"{ "filtered":true, "n": 1.0 }"#.into()), ..named("c-1", "hello ☺") };
    let (message, first) = store.send("anna", conversation, new.clone()).unwrap();
    assert!(first);
    assert_eq!((message.conversation, message.sender.as_deref()), (conversation, Some("anna")));
    assert_eq!((message.kind, &message.content, &message.metadata), (new.kind, &new.content, &new.metadata));
    assert_eq!((message.created_at, message.updated_at), (store.now, store.now));
    assert_eq!((message.is_read, message.deleted_at), (false, None));
    let told = Effect::MessageNew {
        participants: pair(),
        message: message.clone(),
        sender: Some(person("anna")),
        unread: vec![("bert".into(), 1)],
    };
    assert_eq!(store.told(), [told]);

    let second = store.say("anna", conversation, "are you there?");
    assert!(
        matches!(&store.told()[..], [Effect::MessageNew { unread, .. }] if unread[..] == [("bert".into(), 2)])
    );
    let unread = store.unread("bert");
    assert_eq!((unread.len(), unread[0].unread, &unread[0].last_message), (1, 2, &Some(second.clone())));
    assert!(store.unread("anna").is_empty());
    assert_eq!(store.history("bert", conversation), [second, message.clone()]);
    store.restart();
    assert_eq!(store.history("anna", conversation).last(), Some(&message));
}

#[test]
fn a_repeated_name_is_answered_with_the_first_message_and_tells_nobody() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    let (first, _) = store.send("anna", conversation, named("c-1", "hello")).unwrap();
    store.told();
    let (again, is_first) = store.send("anna", conversation, named("c-1", "something else")).unwrap();
    assert_eq!((&again, is_first), (&first, false));
    assert_eq!(store.told(), []);
    assert_eq!(store.unread("bert")[0].unread, 1);

    let elsewhere = store.converse("anna", "cleo");
    let (again, is_first) = store.send("anna", elsewhere, named("c-1", "hello")).unwrap();
    assert_eq!((&again, is_first), (&first, false), "names are the sender's, not the conversation's");
    let (others, is_first) = store.send("bert", conversation, named("c-1", "hello yourself")).unwrap();
    assert!(is_first && others.id != first.id, "each sender has names of his own");

    store.see("bert", conversation, first.id).unwrap();
    store.restart();
    let (again, is_first) = store.send("anna", conversation, named("c-1", "hello")).unwrap();
    assert_eq!((again.id, again.is_read, is_first), (first.id, true, false));

    store.delete("anna", conversation, first.id).unwrap();
    let (again, is_first) = store.send("anna", conversation, named("c-1", "hello")).unwrap();
    assert_eq!((again.id, is_first, &*again.content), (first.id, false, ""));
    assert!(again.deleted_at.is_some());
    assert_eq!(store.history("anna", conversation), [others]);
}

#[test]
fn reading_a_message_reads_all_before_it() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    let said: Vec<_> =
        (0..5).map(|number| store.say("anna", conversation, &format!("{number}")).id).collect();
    let own = store.say("bert", conversation, "not so fast").id;
    store.told();

    let answer = store.see("bert", conversation, said[2]).unwrap();
    let viewed_at = store.now;
    let viewed = |message, unread, first| Answer::Viewed { conversation, message, viewed_at, unread, first };
    assert_eq!(answer, viewed(said[2], 2, true));
    let told = Effect::Viewed {
        conversation,
        participants: pair(),
        message: said[2],
        by: "bert".into(),
        viewed_at,
        unread: 2,
    };
    assert_eq!(store.told(), [told]);
    let read: Vec<bool> = store.history("anna", conversation).iter().map(|message| message.is_read).collect();
    assert_eq!(read, [false, false, false, true, true, true]);
    assert_eq!(store.unread("bert")[0].unread, 2);

    assert_eq!(store.see("bert", conversation, said[2]), Ok(viewed(said[2], 2, false)), "once more");
    assert_eq!(store.see("bert", conversation, said[0]), Ok(viewed(said[0], 2, false)), "an older one");
    assert_eq!(store.told(), []);

    store.see("bert", conversation, own).unwrap();
    assert!(store.unread("bert").is_empty(), "his own message is beyond all of hers");
    assert_eq!(store.unread("anna")[0].unread, 1);
    store.see("anna", conversation, own).unwrap();
    assert!(store.unread("anna").is_empty());
}

#[test]
fn a_delivery_is_told_to_the_sender_once() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    let message = store.say("anna", conversation, "hello").id;
    store.told();
    let delivered = |to: &str| Write::Delivered { to: to.into(), conversation, message };
    assert_eq!(store.write(delivered("anna")), Ok(Answer::Delivered { first: false }), "not to the sender");
    assert_eq!(store.told(), []);
    assert_eq!(store.write(delivered("bert")), Ok(Answer::Delivered { first: true }));
    let told = Effect::Delivered { conversation, message, sender: "anna".into(), delivered_at: store.now };
    assert_eq!(store.told(), [told]);
    assert_eq!(store.write(delivered("bert")), Ok(Answer::Delivered { first: false }));
    assert_eq!(store.told(), []);
}

#[test]
fn either_participant_deletes_and_the_content_is_gone() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    let first = store.say("anna", conversation, "first");
    let second = store.say("anna", conversation, "second");
    let third = store.say("anna", conversation, "third");
    store.told();

    let answer = store.delete("bert", conversation, third.id).unwrap();
    let at = store.now;
    let deleted =
        |first| Answer::Deleted { conversation, message: third.id, by: Some("bert".into()), at, first };
    assert_eq!(answer, deleted(true));
    let told = Effect::Deleted {
        conversation,
        participants: pair(),
        message: third.id,
        by: Some("bert".into()),
        at,
        unread: vec![("bert".into(), 2)],
        last: Some(Box::new(second.clone())),
    };
    assert_eq!(store.told(), [told]);
    assert_eq!(store.conversations("bert", 1, None)[0].last_message.as_ref(), Some(&second));
    assert_eq!(store.conversations("anna", 1, None)[0].last_message.as_ref(), Some(&second));
    assert_eq!(store.delete("anna", conversation, third.id), Ok(deleted(false)), "once more");
    assert_eq!(store.told(), []);

    store.see("bert", conversation, second.id).unwrap();
    store.delete("anna", conversation, first.id).unwrap();
    let told = store.told();
    assert!(
        matches!(&told[..], [_, Effect::Deleted { unread, .. }] if unread.is_empty()),
        "it was read: {told:?}"
    );
    assert_eq!(store.history("bert", conversation).len(), 1);
    assert!(store.unread("bert").is_empty());

    let after = store.page("bert", conversation, 10, Some(third.id)).unwrap();
    assert_eq!(after.messages.len(), 1, "a page may begin before a deleted message");
    store.delete("anna", conversation, second.id).unwrap();
    assert_eq!(store.conversations("anna", 1, None)[0].last_message, None);
    assert_eq!(store.history("anna", conversation), []);
    let later = store.say("bert", conversation, "so quiet here");
    assert_eq!(store.unread("anna")[0].last_message.as_ref(), Some(&later));
}

#[test]
fn what_was_deleted_is_in_no_file() {
    let directory = Directory::new();
    let mut store = Fixture::at(&directory.file());
    let conversation = store.converse("anna", "bert");
    let secret = "the-word-nobody-may-find ".repeat(400);
    let new =
        NewMessage { metadata: Some(r#"{"key":"the-other-word-nobody-may-find"}"#.into()), ..words(&secret) };
    let (message, _) = store.send("anna", conversation, new).unwrap();
    store.delete("anna", conversation, message.id).unwrap();
    store.stop();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let found = bytes.windows(20).any(|window| window == b"word-nobody-may-find");
        assert!(!found, "{}", path.display());
    }
}

#[test]
fn a_backend_speaks_to_both() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    store.told();
    let new = NewMessage { kind: MessageType::System, ..words("The conversation is recorded.") };
    let Answer::Sent { message, first: true } =
        store.write(Write::Send { by: None, conversation, message: new }).unwrap()
    else {
        panic!()
    };
    assert_eq!((&message.sender, message.kind), (&None, MessageType::System));
    let told = Effect::MessageNew {
        participants: pair(),
        message: message.clone(),
        sender: None,
        unread: vec![("anna".into(), 1), ("bert".into(), 1)],
    };
    assert_eq!(store.told(), [told]);
    store.see("anna", conversation, message.id).unwrap();
    assert!(store.history("anna", conversation)[0].is_read);
    assert!(!store.history("bert", conversation)[0].is_read, "each for himself");
    assert!(!store.unread("bert")[0].last_message.as_ref().unwrap().is_read);
    store.told();
    store.delete("anna", conversation, message.id).unwrap();
    assert!(
        matches!(&store.told()[..], [Effect::Deleted { unread, .. }] if unread[..] == [("bert".into(), 0)])
    );
}

#[test]
fn names_and_pictures_are_those_of_the_newest_token() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    let mut sender = |name: Option<&str>, picture: Option<&str>| {
        let by = Person {
            id: "anna".into(),
            username: name.map(SmolStr::from),
            avatar_url: picture.map(SmolStr::from),
        };
        store.write(Write::Send { by: Some(by), conversation, message: words("hello") }).unwrap();
        match store.told().pop() {
            Some(Effect::MessageNew { sender: Some(sender), .. }) => (sender.username, sender.avatar_url),
            other => panic!("{other:?}"),
        }
    };
    let picture: Option<SmolStr> = Some("https://example.com/anna.png".into());
    assert_eq!(sender(Some("Anna"), None), (Some("Anna".into()), picture.clone()));
    assert_eq!(sender(None, None), (Some("Anna".into()), picture), "what is not said stays");
    assert_eq!(sender(Some("Anna B."), Some("new")), (Some("Anna B.".into()), Some("new".into())));
    store.restart();
    let listed = store.conversations("bert", 1, None);
    assert_eq!(listed[0].participants[0].username.as_deref(), Some("Anna B."));
}

#[test]
fn pages_have_between_one_and_a_hundred_messages() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    let mut said: Vec<_> =
        (0..105).map(|number| store.say("anna", conversation, &format!("{number}")).id).collect();
    said.reverse();
    for (limit, length) in [(0, 1), (1, 1), (100, 100), (101, 100), (usize::MAX, 100)] {
        let page = store.page("bert", conversation, limit, None).unwrap();
        assert_eq!(page.messages.len(), length);
        assert_eq!(page.next_before, Some(said[length - 1]));
    }
    let rest = store.page("bert", conversation, 5, Some(said[99])).unwrap();
    assert_eq!((rest.messages.len(), rest.next_before), (5, None), "exactly the rest: there is no next page");
    assert_eq!(store.page("bert", conversation, 5, Some(said[104])).unwrap().messages, []);
}

#[test]
fn a_history_has_each_message_once_while_others_write() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    let mut expected: Vec<_> =
        (0..40).map(|number| store.say("anna", conversation, &format!("{number}")).id).collect();
    expected.reverse();
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = store.page("bert", conversation, 6, before).unwrap();
        found.extend(page.messages.iter().map(|message| message.id));
        before = page.next_before;
        if before.is_none() {
            break;
        }
        store.say("anna", conversation, "one more");
        store.delete("bert", conversation, *found.last().unwrap()).unwrap();
    }
    assert_eq!(found, expected);
}

#[test]
fn a_refused_request_changes_nothing() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    store.told();
    let by = Person { username: Some("Eve the intruder".into()), ..person("eve") };
    let refused = store.write(Write::Send { by: Some(by), conversation, message: words("?") });
    assert_eq!(refused, Err(Refusal::Forbidden));
    assert_eq!(store.told(), []);
    let listed = store.create("anna", "eve").unwrap().0;
    assert_eq!(listed.participants[1], Person::unknown("eve"));
}
