//! Messages between two users, what of them was given, and wallets.

use fanfare::record::mobile::{
    Balance, MobileAnswer, MobileEffect, MobileQuery, MobileWrite, NewPersonalMessage, PersonalMessage,
    PersonalPage, Queued, Transaction, TransactionPage,
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

fn queued(store: &mut Fixture, user: &str) -> Queued {
    match write(store, MobileWrite::Queued { user: user.into() }) {
        Answer::Mobile(MobileAnswer::Queued(queued)) => queued,
        other => panic!("{other:?}"),
    }
}

fn give(store: &mut Fixture, user: &str, up_to: u64) {
    assert_eq!(write(store, MobileWrite::Given { user: user.into(), up_to }), Answer::Done);
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
    let all = queued(&mut store, "bert");
    assert_eq!((&all.messages, all.has_more), (&said, false));
    assert_eq!(queued(&mut store, "anna").messages, []);
    // Asking changes nothing.
    assert_eq!(queued(&mut store, "bert"), all);
    give(&mut store, "bert", said[1].number);
    assert_eq!(queued(&mut store, "bert").messages, said[2..]);
    // Who was sent less says nothing of what came later.
    give(&mut store, "bert", said[0].number);
    assert_eq!(queued(&mut store, "bert").messages, said[2..]);
    store.restart();
    give(&mut store, "bert", said[4].number);
    assert_eq!(queued(&mut store, "bert"), Queued { messages: vec![], has_more: false });
    assert_eq!(queued(&mut store, "cleo").messages.len(), 1);
    assert_eq!(history(&mut store, "bert", "anna", 10, None).unwrap().messages.len(), 5);
}

#[test]
fn so_many_wait_and_the_rest_is_left_to_the_history() {
    let mut store = Fixture::new();
    let said: Vec<_> = (0..503).map(|n| say(&mut store, "anna", "bert", &n.to_string())).collect();
    let waiting = queued(&mut store, "bert");
    assert_eq!((&waiting.messages[..], waiting.has_more), (&said[..500], false));
    // There is room again for what comes when some have been given.
    give(&mut store, "bert", said[9].number);
    let later = say(&mut store, "anna", "bert", "later");
    let waiting = queued(&mut store, "bert").messages;
    assert_eq!((waiting.len(), waiting.first(), waiting.last()), (491, said.get(10), Some(&later)));
    give(&mut store, "bert", later.number);
    assert_eq!(queued(&mut store, "bert").messages, []);
    assert_eq!(history(&mut store, "bert", "anna", 100, None).unwrap().messages[0], later);
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
        let part = queued(&mut store, "bert");
        // Six bytes a character.
        assert!(part.messages.len() * 24_000 <= 384 * 1024);
        given += part.messages.len();
        parts += 1;
        give(&mut store, "bert", part.messages.last().unwrap().number);
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
