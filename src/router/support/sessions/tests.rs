//! The counts under churn, against a recount of what is connected and types.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What happens to one of a few connections of a few users to a few sessions.
#[derive(Clone, Debug)]
enum Step {
    Come(u8, u8),
    Go(usize),
    Type(usize),
    Rest(usize),
    /// The store says who takes part.
    Members(u8),
    /// Time goes by, seconds.
    Wait(u64),
}

/// A connection.
#[derive(Clone, Debug)]
struct Connection {
    session: Uuid,
    user: SmolStr,
    is_typing: bool,
}

fn session(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

fn user(number: u8) -> SmolStr {
    SmolStr::new(format!("user-{number}"))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4u8, 0..4u8).prop_map(|(session, user)| Step::Come(session, user)),
        5 => any::<prop::sample::Index>().prop_map(|at| Step::Go(at.index(1 << 16))),
        4 => any::<prop::sample::Index>().prop_map(|at| Step::Type(at.index(1 << 16))),
        4 => any::<prop::sample::Index>().prop_map(|at| Step::Rest(at.index(1 << 16))),
        1 => (0..4u8).prop_map(Step::Members),
        1 => (1..90u64).prop_map(Step::Wait),
    ]
}

/// Counted anew, from the connections.
fn recount(connections: &[Connection]) -> Census {
    let mut users: BTreeMap<Uuid, (BTreeSet<&SmolStr>, BTreeSet<&SmolStr>)> = BTreeMap::new();
    for connection in connections {
        let (all, typing) = users.entry(connection.session).or_default();
        all.insert(&connection.user);
        typing.extend(connection.is_typing.then_some(&connection.user));
    }
    Census {
        sessions: users.len() as u64,
        connections: connections.len() as u64,
        users: users.values().map(|(all, _)| all.len() as u64).sum(),
        list: users
            .iter()
            .map(|(session, (all, typing))| SessionCensus {
                session: *session,
                users: all.len() as u64,
                typing: typing.len() as u64,
            })
            .collect(),
    }
}

fn of(connections: &[Connection], session: Uuid, user: &SmolStr) -> (usize, usize) {
    let own = connections.iter().filter(|one| one.session == session && one.user == *user);
    let (mut all, mut typing) = (0, 0);
    for connection in own {
        all += 1;
        typing += usize::from(connection.is_typing);
    }
    (all, typing)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn counts_agree_with_a_recount(steps in prop::collection::vec(step(), 1..120)) {
        let (mut sessions, mut now) = (SupportSessions::default(), Now::default());
        let mut connections: Vec<Connection> = Vec::new();
        for step in steps {
            match step {
                Step::Come(number, name) => {
                    let (session, user) = (session(number), user(name));
                    let (is_first, users) = sessions.came(session, &user);
                    prop_assert_eq!(is_first, of(&connections, session, &user).0 == 0);
                    connections.push(Connection { session, user, is_typing: false });
                    let all: BTreeSet<_> =
                        connections.iter().filter(|one| one.session == session).map(|one| &one.user).collect();
                    prop_assert_eq!(users, all.len() as u64);
                }
                Step::Go(at) if !connections.is_empty() => {
                    let gone = connections.remove(at % connections.len());
                    if gone.is_typing {
                        let has_stopped = sessions.types(gone.session, &gone.user, false, now);
                        prop_assert_eq!(has_stopped, of(&connections, gone.session, &gone.user).1 == 0);
                    }
                    let left = sessions.went(gone.session, &gone.user, now);
                    let all: BTreeSet<_> = connections
                        .iter()
                        .filter(|one| one.session == gone.session)
                        .map(|one| &one.user)
                        .collect();
                    let is_last = !all.contains(&gone.user);
                    prop_assert_eq!(left, is_last.then_some(all.len() as u64));
                }
                Step::Type(at) | Step::Rest(at) if !connections.is_empty() => {
                    let is_typing = matches!(step, Step::Type(_));
                    let index = at % connections.len();
                    if connections[index].is_typing == is_typing {
                        continue;
                    }
                    let Connection { session, user, .. } = connections[index].clone();
                    let before = of(&connections, session, &user).1;
                    connections[index].is_typing = is_typing;
                    let after = of(&connections, session, &user).1;
                    let is_changed = sessions.types(session, &user, is_typing, now);
                    prop_assert_eq!(is_changed, (before == 0) != (after == 0));
                }
                Step::Members(number) => {
                    // Not always those who have come.
                    let members = (0..=number).map(|name| Member { user: user(name), blocks: Vec::new() });
                    sessions.set_members(session(number), members.collect(), now);
                }
                Step::Wait(seconds) => now = now.plus(Duration::from_secs(seconds)),
                Step::Go(_) | Step::Type(_) | Step::Rest(_) => {}
            }
            prop_assert_eq!(sessions.census(), recount(&connections));
            let parts = sessions.live.iter().flat_map(|(session, live)| {
                live.members.iter().map(|member| (member.user.clone(), *session))
            });
            prop_assert_eq!(&sessions.parts, &parts.collect());
        }
        for connection in connections.drain(..) {
            if connection.is_typing {
                sessions.types(connection.session, &connection.user, false, now);
            }
            sessions.went(connection.session, &connection.user, now);
        }
        prop_assert_eq!(sessions.census(), Census::default());
        // What is idle is forgotten in time.
        now = now.plus(IDLE);
        let members = vec![Member { user: user(0), blocks: Vec::new() }];
        sessions.set_members(session(9), members, now);
        prop_assert_eq!(sessions.live.len(), 1);
        prop_assert_eq!(sessions.idle.len(), 1);
        prop_assert_eq!(sessions.parts.len(), 1);
    }
}

#[test]
fn who_blocks_a_user_is_not_told_that_he_types() {
    let (mut sessions, now) = (SupportSessions::default(), Now::default());
    let members = (0..3).map(|name| Member { user: user(name), blocks: Vec::new() });
    sessions.set_members(session(1), members.collect(), now);
    sessions.came(session(1), &user(0));
    assert_eq!(sessions.others(session(1), &user(0)), [user(1), user(2)]);
    sessions.set_blocked(&user(2), &user(0), true);
    sessions.set_blocked(&user(7), &user(0), true);
    assert_eq!(sessions.others(session(1), &user(0)), [user(1)]);
    assert_eq!(sessions.others(session(1), &user(1)), [user(0), user(2)]);
    assert_eq!(sessions.all(session(1)).len(), 3);
    sessions.set_blocked(&user(2), &user(0), false);
    assert_eq!(sessions.others(session(1), &user(0)), [user(1), user(2)]);
}

#[test]
fn sessions_to_which_nobody_is_connected_are_bounded() {
    let (mut sessions, now) = (SupportSessions::default(), Now::default());
    for number in 0..MOST_IDLE as u128 + 100 {
        sessions.set_members(Uuid::from_u128(number), Vec::new(), now);
    }
    assert_eq!(sessions.live.len(), MOST_IDLE);
    assert_eq!(sessions.census(), Census::default());
}
