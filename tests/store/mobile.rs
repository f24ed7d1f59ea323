//! Messages between two users, what of them was given, and wallets.

use fanfare::record::mobile::{
    Balance, Given, MobileAnswer, MobileEffect, MobileQuery, MobileWrite, NewPersonalMessage,
    PersonalMessage, PersonalPage, Queued, Transaction, TransactionPage,
};
use fanfare::record::{Answer, Effect, Query, Refusal, Write};
use uuid::Uuid;

use crate::fixture::{Fixture, START};

fn new(recipient: &str, content: &str, name: Option<&str>) -> NewPersonalMessage {
    NewPersonalMessage {
        recipient: recipient.into(),
        kind: "text".into(),
        content: content.into(),
        media_url: None,
        client_message_id: name.map(Into::into),
    }
}

fn write(store: &mut Fixture, write: MobileWrite) -> Answer {
    store.write(Write::Mobile(write)).unwrap()
}

fn send(store: &mut Fixture, by: &str, message: NewPersonalMessage) -> (PersonalMessage, bool) {
    match write(store, MobileWrite::Send { by: by.into(), message }) {
        Answer::Mobile(MobileAnswer::Sent { message, first }) => (message, first),
        other => panic!("{other:?}"),
    }
}

fn say(store: &mut Fixture, by: &str, to: &str, content: &str) -> PersonalMessage {
    send(store, by, new(to, content, None)).0
}

fn queued(store: &mut Fixture, user: &str, limit: usize, but_live: bool) -> Queued {
    match write(store, MobileWrite::Queued { user: user.into(), limit, but_live }) {
        Answer::Mobile(MobileAnswer::Queued(queued)) => queued,
        other => panic!("{other:?}"),
    }
}

fn give(store: &mut Fixture, user: &str, from: u64, up_to: u64, but_live: bool) {
    let given = Given { from, up_to, but_live };
    assert_eq!(write(store, MobileWrite::Given { user: user.into(), given }), Answer::Done);
}

fn ask(store: &mut Fixture, query: MobileQuery) -> Result<MobileAnswer, Refusal> {
    match store.read(Query::Mobile(query))? {
        Answer::Mobile(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

fn history(
    store: &mut Fixture,
    user: &str,
    with: &str,
    limit: usize,
    before: Option<Uuid>,
) -> Result<PersonalPage, Refusal> {
    let query = MobileQuery::Messages { user: user.into(), with: with.into(), limit, before };
    match ask(store, query)? {
        MobileAnswer::Messages(page) => Ok(page),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_is_told_once_and_a_name_counts_once_for_its_sender() {
    let mut store = Fixture::new();
    let (message, first) = send(&mut store, "anna", new("bert", "hello", Some("1")));
    assert!(first);
    assert_eq!((message.room_id(), message.created_at), ("anna~bert".to_owned(), START + 1));
    assert_eq!(store.told(), [Effect::Mobile(MobileEffect::Message(message.clone()))]);
    // Whatever is said under it, and to whom.
    for again in [new("bert", "hello", Some("1")), new("cleo", "other", Some("1"))] {
        assert_eq!(send(&mut store, "anna", again), (message.clone(), false));
    }
    assert_eq!(store.told(), []);
    // Another sender's is another one.
    let (other, first) = send(&mut store, "bert", new("anna", "hello", Some("1")));
    assert!(first && other.id != message.id && other.number > message.number);
    let media = NewPersonalMessage {
        kind: "image".into(),
        media_url: Some("https://example.com/1.png".into()),
        ..new("bert", "", None)
    };
    let (media, _) = send(&mut store, "anna", media);
    assert_eq!(history(&mut store, "bert", "anna", 10, None).unwrap().messages, [media, other, message]);
    let own = MobileWrite::Send { by: "anna".into(), message: new("anna", "me", None) };
    assert!(matches!(store.write(Write::Mobile(own)), Err(Refusal::Invalid { field: "recipientId", .. })));
}

#[test]
fn what_was_not_given_waits_in_order_and_survives() {
    let mut store = Fixture::new();
    let said: Vec<_> = (0..5).map(|n| say(&mut store, "anna", "bert", &n.to_string())).collect();
    say(&mut store, "anna", "cleo", "another's");
    store.restart();
    let all = queued(&mut store, "bert", 10, false);
    assert_eq!((&all.messages, all.up_to, all.has_more), (&said, said[4].number, false));
    assert_eq!(queued(&mut store, "anna", 10, false).messages, []);
    // Asking changes nothing.
    assert_eq!(queued(&mut store, "bert", 10, false), all);
    // What is beyond the limit counts as given with the rest.
    let some = queued(&mut store, "bert", 2, false);
    assert_eq!((some.messages.len(), some.up_to, some.has_more), (2, said[4].number, false));
    give(&mut store, "bert", said[0].number, said[1].number, false);
    assert_eq!(queued(&mut store, "bert", 10, false).messages, said[2..]);
    give(&mut store, "bert", said[2].number, said[4].number, false);
    let none = Queued { messages: vec![], up_to: 0, has_more: false };
    assert_eq!(queued(&mut store, "bert", 10, false), none);
    assert_eq!(queued(&mut store, "cleo", 10, false).messages.len(), 1);
    assert_eq!(history(&mut store, "bert", "anna", 10, None).unwrap().messages.len(), 5);
}

#[test]
fn what_another_connection_was_sent_live_waits_for_that_one() {
    let mut store = Fixture::new();
    let said: Vec<_> = (0..3).map(|n| say(&mut store, "anna", "bert", &n.to_string())).collect();
    let live = MobileWrite::SentLive { to: "bert".into(), number: said[1].number };
    assert_eq!(write(&mut store, live), Answer::Done);
    let mut others = said.clone();
    let live = others.remove(1);
    assert_eq!(queued(&mut store, "bert", 10, true).messages, others);
    assert_eq!(queued(&mut store, "bert", 10, false).messages, said);
    give(&mut store, "bert", said[0].number, said[2].number, true);
    assert_eq!(queued(&mut store, "bert", 10, false).messages, [live]);
}

#[test]
fn much_text_waits_in_parts() {
    let mut store = Fixture::new();
    let text = "\u{1}".repeat(4_000);
    for _ in 0..40 {
        say(&mut store, "anna", "bert", &text);
    }
    let (mut given, mut parts) = (0, 0);
    loop {
        let part = queued(&mut store, "bert", 500, false);
        let (first, last) = (part.messages[0].number, part.messages.last().unwrap().number);
        assert_eq!(part.up_to, last);
        // Six bytes a character.
        assert!(part.messages.len() * 24_000 <= 384 * 1024);
        given += part.messages.len();
        parts += 1;
        give(&mut store, "bert", first, part.up_to, false);
        if !part.has_more {
            break;
        }
    }
    assert_eq!((given, parts), (40, 3));
}

#[test]
fn histories_and_partners_are_paged() {
    let mut store = Fixture::new();
    let said: Vec<_> = (0..7).map(|n| say(&mut store, "anna", "bert", &n.to_string())).collect();
    let to_cleo = say(&mut store, "cleo", "anna", "hi");
    let last = say(&mut store, "bert", "anna", "last");
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = history(&mut store, "anna", "bert", 3, before).unwrap();
        all.extend(page.messages);
        before = all.last().map(|message| message.id);
        if !page.has_more {
            break;
        }
    }
    all.reverse();
    assert_eq!(all, [&said[..], std::slice::from_ref(&last)].concat());
    assert_eq!(history(&mut store, "anna", "dora", 3, None).unwrap().messages, []);
    for (with, before) in [("bert", to_cleo.id), ("dora", last.id), ("bert", Uuid::nil())] {
        let page = history(&mut store, "anna", with, 3, Some(before));
        assert_eq!(page, Err(Refusal::NotFound("message")), "{with}");
    }
    let mut partners = |user: &str, limit, before| {
        let query = MobileQuery::Conversations { user: user.into(), limit, before };
        match ask(&mut store, query) {
            Ok(MobileAnswer::Messages(page)) => Ok((page.messages, page.has_more)),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal),
        }
    };
    assert_eq!(partners("anna", 10, None), Ok((vec![last.clone(), to_cleo.clone()], false)));
    assert_eq!(partners("anna", 1, None), Ok((vec![last.clone()], true)));
    assert_eq!(partners("anna", 1, Some(last.id)), Ok((vec![to_cleo.clone()], false)));
    assert_eq!(partners("cleo", 10, None), Ok((vec![to_cleo], false)));
    assert_eq!(partners("cleo", 10, Some(last.id)), Err(Refusal::NotFound("message")));
}

#[test]
fn wallets_hold_what_was_said_last() {
    let mut store = Fixture::new();
    let set = |store: &mut Fixture, user: &str, currency: &str, balance: &str| {
        let (user, currency, balance) = (user.into(), currency.into(), balance.into());
        assert_eq!(write(store, MobileWrite::SetBalance { user, currency, balance }), Answer::Done);
    };
    set(&mut store, "anna", "USDC", "\"12.50\"");
    set(&mut store, "anna", "BTC", "0.10");
    set(&mut store, "bert", "BTC", "7");
    set(&mut store, "anna", "BTC", "0.20");
    let balance = |currency: &str, balance: &str, after| Balance {
        currency: currency.into(),
        balance: balance.into(),
        updated_at: START + after,
    };
    let expected = vec![balance("BTC", "0.20", 4), balance("USDC", "\"12.50\"", 1)];
    let query = MobileQuery::Balances { user: "anna".into() };
    assert_eq!(ask(&mut store, query), Ok(MobileAnswer::Balances(expected)));
    let add = |store: &mut Fixture, user: &str, id: &str, data: &str| {
        let (user, id, data) = (user.into(), id.into(), data.into());
        assert_eq!(write(store, MobileWrite::AddTransaction { user, id, data }), Answer::Done);
    };
    for id in ["a", "b", "c"] {
        add(&mut store, "anna", id, "{}");
    }
    add(&mut store, "bert", "a", "{}");
    add(&mut store, "anna", "b", "{\"more\":1}");
    let transaction = |id: &str, data: &str| Transaction { id: id.into(), data: data.into() };
    let mut page = |limit, before: Option<&str>| {
        let (user, before) = ("anna".into(), before.map(Into::into));
        ask(&mut store, MobileQuery::Transactions { user, limit, before })
    };
    let pages =
        |transactions, has_more| Ok(MobileAnswer::Transactions(TransactionPage { transactions, has_more }));
    let newest = vec![transaction("c", "{}"), transaction("b", "{\"more\":1}")];
    assert_eq!(page(2, None), pages(newest, true));
    assert_eq!(page(2, Some("b")), pages(vec![transaction("a", "{}")], false));
    assert_eq!(page(2, Some("d")), Err(Refusal::NotFound("transaction")));
}
