//! Clients that come back while their former connection is thought to be there.

use super::*;

const PID: Pid = [9; 16];
const FORMER: ClientId = ClientId { shard: 0, slot: 4, generation: 1 };
const OTHER: ClientId = ClientId { shard: 0, slot: 5, generation: 1 };

fn is_empty(bench: &Bench) -> bool {
    let recovery = bench.router.recovery.as_ref().expect("it is on");
    recovery.living.is_empty() && recovery.sessions.len() == 0
}

impl Bench {
    fn posted(&mut self) -> Vec<(u8, ToShard)> {
        std::mem::take(&mut self.posted.0)
    }
}

#[test]
fn the_former_connection_goes_and_its_session_is_given_to_the_new_one() {
    let mut bench = Bench::new();
    bench.say(ToRouter::Recoverable { pid: PID, client: FORMER });
    let posted = bench.ask(ASKER, PID);
    assert!(matches!(&posted[..], [(0, ToShard::Evict { client: FORMER })]), "{posted:?}");
    bench.say(ToRouter::Save(session(9, 2)));
    let posted = bench.posted();
    assert!(
        matches!(&posted[..], [(1, ToShard::Restored { client: ASKER, saved: Some(saved), .. })] if saved.pid == PID),
        "{posted:?}"
    );
    assert!(is_empty(&bench));
    // It is the new client's now.
    bench.say(ToRouter::Recoverable { pid: PID, client: ASKER });
    bench.say(ToRouter::Save(session(9, 2)));
    assert_eq!(bench.restore(PID), Some(session(9, 2)));
    assert!(is_empty(&bench));
}

#[test]
fn a_session_that_ended_for_good_is_not_given() {
    let mut bench = Bench::new();
    bench.say(ToRouter::Recoverable { pid: PID, client: FORMER });
    bench.ask(ASKER, PID);
    bench.say(ToRouter::Unrecoverable { pid: PID });
    let posted = bench.posted();
    assert!(matches!(&posted[..], [(1, ToShard::Restored { client: ASKER, saved: None, .. })]), "{posted:?}");
    bench.say(ToRouter::Unrecoverable { pid: PID });
    assert_eq!(bench.restore(PID), None);
    assert!(is_empty(&bench));
}

#[test]
fn of_several_that_come_back_the_last_gets_the_session_and_the_former_is_told_once() {
    let mut bench = Bench::new();
    bench.say(ToRouter::Recoverable { pid: PID, client: FORMER });
    bench.ask(ASKER, PID);
    let posted = bench.ask(OTHER, PID);
    assert!(matches!(&posted[..], [(1, ToShard::Restored { client: ASKER, saved: None, .. })]), "{posted:?}");
    bench.say(ToRouter::Save(session(9, 0)));
    let posted = bench.posted();
    assert!(
        matches!(&posted[..], [(0, ToShard::Restored { client: OTHER, saved: Some(_), .. })]),
        "{posted:?}"
    );
    assert!(is_empty(&bench));
}
