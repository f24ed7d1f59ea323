//! Messages between two users, what of them was given, and wallets.

use fanfare::app::mobile::tell;
use fanfare::record::mobile::{
    Balance, MobileAnswer, MobileEffect, MobileQuery, MobileWrite, NewPersonalMessage, PersonalMessage,
    PersonalPage, Place, Queued, Transaction, TransactionPage,
};
use fanfare::record::{Answer, Effect, Query, Refusal, Write};
use fanfare::time::Now;
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

/// What a connection is given that is nowhere yet.
fn queued(store: &mut Fixture, user: &str) -> Queued {
    queued_from(store, user, None, usize::MAX)
}

fn queued_from(store: &mut Fixture, user: &str, place: Option<Place>, bytes: usize) -> Queued {
    match write(store, MobileWrite::Queued { user: user.into(), place, bytes }) {
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
    let nothing = queued(&mut store, "bert");
    assert_eq!((nothing.messages, nothing.has_more), (vec![], false));
    assert_eq!(queued(&mut store, "cleo").messages.len(), 1);
    assert_eq!(history(&mut store, "bert", "anna", 10, None).unwrap().messages.len(), 5);
}

#[test]
fn so_many_are_given_and_the_rest_is_left_to_the_history() {
    let mut store = Fixture::new();
    let said: Vec<_> = (0..503).map(|n| say(&mut store, "anna", "bert", &n.to_string())).collect();
    let waiting = queued(&mut store, "bert");
    assert_eq!((&waiting.messages[..], waiting.has_more), (&said[..500], false));
    assert_eq!(waiting.place, Place { after: said[502].number, until: said[502].number, left: 0 });
    // What comes now is given however many have waited.
    let later = say(&mut store, "anna", "bert", "later");
    let next = queued_from(&mut store, "bert", Some(waiting.place), usize::MAX);
    assert_eq!((&next.messages[..], next.has_more), (&[later.clone()][..], false));
    // One that comes after some have been given begins behind those.
    give(&mut store, "bert", said[9].number);
    let waiting = queued(&mut store, "bert").messages;
    assert_eq!((waiting.len(), waiting.first(), waiting.last()), (494, said.get(10), Some(&later)));
    give(&mut store, "bert", next.place.after);
    assert_eq!(queued(&mut store, "bert").messages, []);
    assert_eq!(history(&mut store, "bert", "anna", 100, None).unwrap().messages[0], later);
}

#[test]
fn each_connection_has_its_own_place() {
    let mut store = Fixture::new();
    let mut said: Vec<_> = (0..600).map(|n| say(&mut store, "anna", "bert", &n.to_string())).collect();
    let part = |store: &mut Fixture, place| queued_from(store, "bert", place, 100_000);
    let first = part(&mut store, None);
    assert!(first.has_more && first.messages.len() < 300);
    // Another one shows to have all, and more has come meanwhile.
    give(&mut store, "bert", said[599].number);
    said.extend((0..300).map(|_| say(&mut store, "anna", "bert", "live")));
    let (mut given, mut place, mut has_more) = (first.messages, first.place, true);
    while has_more {
        let next = part(&mut store, Some(place));
        given.extend(next.messages);
        (place, has_more) = (next.place, next.has_more);
    }
    said.drain(500..600);
    assert!(given == said, "{:?}", given.iter().map(|message| &message.content).collect::<Vec<_>>());
    let later = say(&mut store, "anna", "bert", "later");
    assert_eq!(part(&mut store, Some(place)).messages, [later]);
}

#[test]
fn what_is_given_at_once_fits_as_it_is_written() {
    let mut store = Fixture::new();
    // The longest ids, each character of which is written as three in the id of the pair, and texts that are all escapes.
    let user = |last: &str| format!("{}{last}", "~".repeat(127));
    let (from, to) = (user("a"), user("b"));
    for n in 0..40 {
        let message = NewPersonalMessage {
            kind: "k".repeat(32).into(),
            media_url: Some(format!("https://example.com/{}", "\"".repeat(2_000)).into()),
            ..new(&to, &"\u{1}".repeat(n * 100), Some(&format!("{n:0>128}")))
        };
        assert!(send(&mut store, &from, message).1);
    }
    let event = |message: &PersonalMessage| {
        let [told, _] = tell(&MobileEffect::Message(message.clone()), Now { mono: 0, unix: 0 });
        // The header of a frame, and what stands around the event's name and data.
        10 + r#"42/chat,["",]"#.len() + told.event().len() + told.data().len()
    };
    for bytes in [1, 16_384, 50_000, 262_144] {
        let (mut place, mut given) = (None, 0);
        loop {
            let part = queued_from(&mut store, &to, place, bytes);
            let written: usize = part.messages.iter().map(event).sum();
            assert!(written <= bytes || part.messages.len() == 1, "{written} of {bytes}");
            // As much as fits, or nearly.
            assert!(!part.has_more || written + 2 * 30_000 > bytes, "{written} of {bytes}");
            given += part.messages.len();
            place = Some(part.place);
            if !part.has_more {
                break;
            }
        }
        assert_eq!(given, 40);
    }
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
