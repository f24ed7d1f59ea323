//! Photos that go some seconds after they were seen.

use std::time::{Duration, Instant};

use fanfare::record::{Answer, Effect, Query, Write};
use fanfare::time::Now;

use crate::fixture::{Directory, Fixture, ephemeral, person};

#[test]
fn a_photo_goes_when_its_time_is_over() {
    let mut store = Fixture::new();
    store.now = Now::read().unix_ms();
    let conversation = store.converse("anna", "bert");
    let (photo, _) = store.send("anna", conversation, ephemeral(1)).unwrap();
    store.see("anna", conversation, photo.id).unwrap();
    assert_eq!(
        store.read(Query::Due { now: u64::MAX >> 1 }),
        Ok(Answer::Due(vec![])),
        "its sender's view starts nothing"
    );
    store.told();

    let began = Instant::now();
    store.see("bert", conversation, photo.id).unwrap();
    let seen_at = store.now;
    assert_eq!(store.read(Query::Due { now: seen_at + 999 }), Ok(Answer::Due(vec![])));
    assert_eq!(store.read(Query::Due { now: seen_at + 1_000 }), Ok(Answer::Due(vec![photo.id])));
    assert!(matches!(store.wait_for_effect(), Effect::Viewed { .. }));
    let Effect::Deleted { message, by: None, at, unread, .. } = store.wait_for_effect() else { panic!() };
    assert_eq!(message, photo.id);
    assert!(at >= seen_at + 1_000 && unread.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert!(store.history("anna", conversation).is_empty());
    assert_eq!(store.read(Query::Due { now: u64::MAX >> 1 }), Ok(Answer::Due(vec![])));
}

#[test]
fn a_photo_whose_time_was_over_while_nothing_ran_goes_at_the_start() {
    let directory = Directory::new();
    let mut database = fanfare::store::Database::open(&directory.file()).unwrap();
    let long_ago = crate::fixture::START;
    let participants = ["anna".into(), "bert".into()];
    let Ok(Answer::Conversation { conversation, .. }) =
        database.write(long_ago, &Write::CreateConversation { by: None, participants })
    else {
        panic!()
    };
    let conversation = conversation.id;
    let send = Write::Send { by: Some(person("anna")), conversation, message: ephemeral(60) };
    let mut photos = Vec::new();
    for _ in 0..300 {
        let Ok(Answer::Sent { message, .. }) = database.write(long_ago, &send) else { panic!() };
        photos.push(message.id);
    }
    let unseen = photos.pop().unwrap();
    let last = *photos.last().unwrap();
    database.write(long_ago, &Write::Read { by: person("bert"), conversation, message: last }).unwrap();
    drop(database);

    let mut store = Fixture::at(&directory.file());
    let mut gone = Vec::new();
    while gone.len() < photos.len() {
        let Effect::Deleted { message, by: None, .. } = store.wait_for_effect() else { panic!() };
        gone.push(message);
    }
    assert_eq!(gone, photos, "more than one transaction of them, the oldest first");
    let left = store.history("bert", conversation);
    assert_eq!((left.len(), left[0].id), (1, unseen), "what was not seen stays");
}

#[test]
fn a_photo_that_was_deleted_does_not_go_twice() {
    let mut store = Fixture::new();
    let conversation = store.converse("anna", "bert");
    let (photo, _) = store.send("anna", conversation, ephemeral(60)).unwrap();
    store.see("bert", conversation, photo.id).unwrap();
    store.told();
    // Its time was over long ago: the clock of the requests stands still.
    let answer = store.delete("anna", conversation, photo.id).unwrap();
    assert!(matches!(answer, Answer::Deleted { .. }));
    let told = store.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(store.write(Write::Expire), Ok(Answer::Expired { count: 0 }));
    assert_eq!(store.told(), []);
}
