//! The ways that SQLite takes for `mobile`: along an index each, however long the histories.

use super::*;
use crate::record::mobile::{MobileAnswer, MobileQuery, MobileWrite, NewPersonalMessage, Place};
use crate::store::mobile;

fn write(database: &mut Database, write: MobileWrite) -> Answer {
    database.write(NOW, &Write::Mobile(write)).expect("it may be done")
}

fn query(database: &mut Database, query: MobileQuery) -> MobileAnswer {
    match database.read(&Query::Mobile(query)) {
        Ok(Answer::Mobile(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

fn say(database: &mut Database, by: &str, to: &str, name: Option<&str>) {
    let message = NewPersonalMessage {
        recipient: to.into(),
        kind: "text".into(),
        content: "hello".into(),
        media_url: None,
        client_message_id: name.map(SmolStr::from),
    };
    let answer = write(database, MobileWrite::Send { by: by.into(), message });
    assert!(matches!(answer, Answer::Mobile(MobileAnswer::Sent { .. })), "{answer:?}");
}

/// Asks everything that can be asked.
fn everything(database: &mut Database) {
    for name in [None, Some("m1"), Some("m1")] {
        say(database, "anna", "bert", name);
    }
    for change in [
        MobileWrite::Queued { user: "bert".into(), place: None, bytes: 1 },
        MobileWrite::Given { user: "bert".into(), up_to: 1 },
        MobileWrite::SetBalance { user: "anna".into(), currency: "BTC".into(), balance: "1".into() },
        MobileWrite::AddTransaction { user: "anna".into(), id: "t".into(), data: "{}".into() },
    ] {
        write(database, change);
    }
    let user = || SmolStr::from("anna");
    let messages = |before| MobileQuery::Messages { user: user(), with: "bert".into(), limit: 10, before };
    let MobileAnswer::Messages(page) = query(database, messages(None)) else { panic!() };
    let last = page.messages.first().map(|message| message.id);
    for asked in [
        messages(last),
        MobileQuery::Conversations { user: user(), limit: 10, before: last },
        MobileQuery::Balances { user: user() },
        MobileQuery::Transactions { user: user(), limit: 10, before: Some("t".into()) },
    ] {
        query(database, asked);
    }
}

#[test]
fn nothing_is_scanned_or_sorted() {
    let file = File::new();
    let mut database = file.open();
    let profiles = watch(&mut database);
    everything(&mut database);
    let statements: BTreeMap<String, ()> = take(&profiles)
        .into_iter()
        .filter(|profile| !["PRAGMA", "BEGIN", "SAVEPOINT"].iter().any(|word| profile.sql.starts_with(word)))
        .map(|profile| (profile.sql, ()))
        .collect();
    assert!(statements.len() >= 18, "{}", statements.len());
    for sql in statements.keys() {
        let plan = plan(database.connection(), sql);
        let is_slow = |step: &String| step.starts_with("SCAN") || step.starts_with("USE TEMP B-TREE");
        assert!(!plan.iter().any(is_slow), "{sql}: {plan:?}");
    }
    let by_number = "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)";
    for (sql, expected) in [
        (mobile::HISTORY, &["SEARCH m USING INDEX personal_messages_history (pair=? AND rowid<?)"][..]),
        (
            mobile::PARTNERS,
            &[
                "SEARCH p USING COVERING INDEX personal_partners_newest (user=? AND last_message<?)",
                by_number,
            ],
        ),
        (mobile::NEXT, &["SEARCH m USING INDEX personal_messages_received (recipient=? AND rowid>?)"]),
        (
            mobile::NEWEST,
            &["SEARCH personal_messages USING COVERING INDEX personal_messages_received (recipient=?)"],
        ),
        (
            mobile::TRANSACTIONS,
            &["SEARCH wallet_transactions USING INDEX wallet_transactions_newest (user=? AND rowid<?)"],
        ),
        (mobile::BALANCES, &["SEARCH wallet_balances USING PRIMARY KEY (user=?)"]),
    ] {
        assert_eq!(plan(database.connection(), sql), expected, "{sql}");
    }
}

/// Makes so many messages, counted from 1, of anna's to bert, with whom she has talked before; as many transactions of
/// hers; and as many users with whom she has talked once.
fn long_histories(database: &mut Database, count: u32) {
    say(database, "anna", "bert", None);
    write(database, MobileWrite::Given { user: "bert".into(), up_to: 1 });
    let connection = database.connection();
    let transaction = connection.transaction().expect("nothing else is under way");
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)";
    for (into, select) in [
        (
            "personal_messages (id, pair, sender, recipient, type, content, created_at)",
            "printf('00000000-0000-7000-8000-%012x', i), 1, 'anna', 'bert', 'text', 'number ' || i, i",
        ),
        ("wallet_transactions (user, id, data, created_at)", "'anna', 't' || i, '{}', i"),
        ("personal_pairs (first, second)", "'anna', 'user-' || i"),
        ("personal_partners (user, pair, last_message)", "'anna', i + 1, i + 1"),
    ] {
        transaction
            .execute(&format!("{numbers} INSERT INTO {into} SELECT {select} FROM n"), [count])
            .expect(into);
    }
    transaction.commit().expect("there is room");
}

#[test]
fn every_page_of_a_long_history_costs_the_same() {
    let file = File::new();
    let mut database = file.open();
    let count = LONG / 4;
    long_histories(&mut database, count);
    let profiles = watch(&mut database);
    let mut costs: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    let user = || SmolStr::from("anna");
    for before in [None, Some(count - 1), Some(count / 2), Some(100)] {
        let message = before.map(nth);
        let number = before.map(|before| format!("t{before}").into());
        for (sql, asked) in [
            (
                mobile::HISTORY,
                MobileQuery::Messages { user: user(), with: "bert".into(), limit: 99, before: message },
            ),
            (mobile::PARTNERS, MobileQuery::Conversations { user: user(), limit: 99, before: message }),
            (mobile::TRANSACTIONS, MobileQuery::Transactions { user: user(), limit: 99, before: number }),
        ] {
            let found = match query(&mut database, asked) {
                MobileAnswer::Messages(page) => page.messages.len(),
                MobileAnswer::Transactions(page) => page.transactions.len(),
                other => panic!("{other:?}"),
            };
            assert_eq!(found, 99);
            let taken = take(&profiles);
            let is_direct = |profile: &Profile| profile.scanned + profile.sorted + profile.indexed == 0;
            assert!(taken.iter().all(is_direct), "{taken:?}");
            let page = taken.iter().find(|profile| profile.sql == sql).expect("the page itself");
            costs.entry(sql).or_default().push(page.steps);
        }
    }
    for costs in costs.values() {
        // The last page has no row behind it that tells of another one.
        assert!(
            costs.iter().max() <= costs.iter().min().map(|least| least + least / 20).as_ref(),
            "{costs:?}"
        );
    }
}

#[test]
fn a_message_costs_the_same_in_a_long_history() {
    let file = File::new();
    let mut database = file.open();
    long_histories(&mut database, LONG / 4);
    let profiles = watch(&mut database);
    let mut cost = |from: &str, to: &str, name: &str| {
        take(&profiles);
        say(&mut database, from, to, Some(name));
        take(&profiles).iter().map(|profile| profile.steps).sum::<i32>()
    };
    // The first makes the pair.
    cost("cleo", "dora", "0");
    let (short, long) = (cost("cleo", "dora", "1"), cost("anna", "bert", "1"));
    assert!(long <= short + short / 4, "{long} steps in a long history, {short} in a short one");
}

#[test]
fn what_is_given_costs_as_much_as_there_is_of_it_however_much_waits() {
    let file = File::new();
    let mut database = file.open();
    let count = LONG / 4;
    long_histories(&mut database, count);
    let profiles = watch(&mut database);
    let mut give = |place| {
        take(&profiles);
        let user = "bert".into();
        let answer = write(&mut database, MobileWrite::Queued { user, place, bytes: usize::MAX });
        let Answer::Mobile(MobileAnswer::Queued(queued)) = answer else { panic!("{answer:?}") };
        let taken = take(&profiles);
        assert!(taken.iter().all(|profile| profile.scanned + profile.sorted + profile.indexed == 0));
        (queued, taken.iter().map(|profile| profile.steps).sum::<i32>())
    };
    let (first, long) = give(None);
    assert_eq!((first.messages.len(), first.has_more), (MobileQuery::MOST_QUEUED, false));
    let (last, short) = give(Some(Place { after: u64::from(count) - 499, until: 0, left: 0 }));
    assert_eq!((last.messages.len(), last.has_more), (MobileQuery::MOST_QUEUED, false));
    assert!(long <= short + short / 4, "{long} steps where much waits, {short} where nothing does");
}

#[test]
fn no_statement_is_prepared_twice() {
    let file = File::new();
    let mut database = file.open();
    let again = prepared_again(&mut database, |database| (0..5).for_each(|_| everything(database)));
    assert!(again.is_empty(), "{again:#?}");
}
