//! Sessions of `support` against a model that counts everything anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use fanfare::record::support::{
    Caller, ChatMessage, ChatSession, ChatType, Member, NewChatMessage, Progress, Role, SupportAnswer,
    SupportEffect, SupportQuery, SupportWrite,
};
use fanfare::record::{Answer, Effect, Query, Refusal, Write};
use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

use crate::fixture::Fixture;

/// The first is an agent's token, as is the second.
const USERS: [&str; 5] = ["gus", "zoe", "ada", "bob", "eve"];

fn caller(user: usize) -> Caller {
    Caller { user: USERS[user].into(), is_agent: user < 2 }
}

fn text(content: &str) -> NewChatMessage {
    NewChatMessage {
        kind: ChatType::Text,
        content: content.into(),
        reply_to: None,
        mentions: Vec::new(),
        file: None,
    }
}

fn write(store: &mut Fixture, what: SupportWrite) -> Result<SupportAnswer, Refusal> {
    match store.write(Write::Support(what))? {
        Answer::Support(answer) => Ok(*answer),
        other => panic!("{other:?}"),
    }
}

fn read(store: &mut Fixture, what: SupportQuery) -> Result<SupportAnswer, Refusal> {
    match store.read(Query::Support(what))? {
        Answer::Support(answer) => Ok(*answer),
        other => panic!("{other:?}"),
    }
}

fn told(store: &mut Fixture) -> Vec<SupportEffect> {
    let only = |effect| match effect {
        Effect::Support(effect) => effect,
        other => panic!("{other:?}"),
    };
    store.told().into_iter().map(only).collect()
}

fn create(store: &mut Fixture, user: usize, agent: Option<usize>) -> ChatSession {
    let agent = agent.map(|agent| USERS[agent].into());
    match write(store, SupportWrite::Create { by: caller(user), title: "Help".into(), agent }).unwrap() {
        SupportAnswer::Session(session) => session,
        other => panic!("{other:?}"),
    }
}

fn say(store: &mut Fixture, user: usize, session: Uuid, content: &str) -> Result<ChatMessage, Refusal> {
    match write(store, SupportWrite::Send { by: caller(user), session, message: text(content) })? {
        SupportAnswer::Sent(message) => Ok(message),
        other => panic!("{other:?}"),
    }
}

fn page(store: &mut Fixture, user: usize, session: Uuid, limit: usize, offset: u64) -> Vec<ChatMessage> {
    match read(store, SupportQuery::Messages { by: caller(user), session, limit, offset }).unwrap() {
        SupportAnswer::Messages(page) => page,
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(usize, Option<usize>),
    Enter(usize, Index),
    Say(usize, Index),
    Read(usize, Index, Index),
    Deliver(Index, Index),
    Block(usize, usize),
    Unblock(usize, usize),
    Close(usize, Index),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 0..USERS.len();
    let any = any::<Index>;
    prop_oneof![
        2 => (user(), prop::option::of(0..2usize)).prop_map(|(user, agent)| Step::Create(user, agent)),
        3 => (user(), any()).prop_map(|(user, session)| Step::Enter(user, session)),
        12 => (user(), any()).prop_map(|(user, session)| Step::Say(user, session)),
        5 => (user(), any(), any()).prop_map(|(user, session, message)| Step::Read(user, session, message)),
        2 => (any(), any()).prop_map(|(session, message)| Step::Deliver(session, message)),
        3 => (user(), user()).prop_map(|(user, blocked)| Step::Block(user, blocked)),
        2 => (user(), user()).prop_map(|(user, blocked)| Step::Unblock(user, blocked)),
        1 => (user(), any()).prop_map(|(user, session)| Step::Close(user, session)),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Debug)]
struct Said {
    id: Uuid,
    sender: usize,
    is_delivered: bool,
}

#[derive(Clone, Debug, Default)]
struct Model {
    sessions: Vec<(Uuid, Chat)>,
    blocks: BTreeSet<(usize, usize)>,
}

#[derive(Clone, Debug, Default)]
struct Chat {
    /// Messages each has read.
    members: BTreeMap<usize, usize>,
    agent: Option<usize>,
    said: Vec<Said>,
    is_closed: bool,
}

impl Model {
    fn hears(&self, user: usize, of: usize) -> bool {
        !self.blocks.contains(&(user, of))
    }

    /// Lets an agent take part; or why not.
    fn enter(&mut self, user: usize, at: usize) -> Result<bool, Refusal> {
        let chat = &mut self.sessions[at].1;
        if chat.members.contains_key(&user) {
            return Ok(false);
        }
        match (user < 2, chat.is_closed) {
            (false, _) => Err(Refusal::Forbidden),
            (true, true) => Err(Refusal::Closed),
            (true, false) => {
                chat.members.insert(user, 0);
                Ok(true)
            }
        }
    }

    fn visible(&self, user: usize, at: usize) -> Vec<(usize, &Said)> {
        let said = self.sessions[at].1.said.iter().enumerate();
        said.filter(|(_, said)| self.hears(user, said.sender)).collect()
    }
}

fn names(users: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    users.into_iter().map(|user| USERS[user].to_owned()).collect()
}

fn set(users: &[smol_str::SmolStr]) -> BTreeSet<String> {
    users.iter().map(ToString::to_string).collect()
}

/// Everything that can be asked agrees with the model.
fn check(store: &mut Fixture, model: &Model) {
    for (at, (id, chat)) in model.sessions.iter().enumerate() {
        for user in 0..USERS.len() {
            let seen = read(store, SupportQuery::Session { by: caller(user), session: *id });
            let mark = chat.members.get(&user);
            if mark.is_none() && user >= 2 {
                assert_eq!(seen, Err(Refusal::Forbidden));
                continue;
            }
            let Ok(SupportAnswer::Session(seen)) = seen else { panic!("{seen:?}") };
            let visible = model.visible(user, at);
            let unread = mark.map_or(0, |mark| {
                visible.iter().filter(|(place, said)| place >= mark && said.sender != user).count()
            });
            assert_eq!((seen.total, seen.unread), (visible.len() as u64, unread as u64));
            assert_eq!(seen.closed_at.is_some(), chat.is_closed);
            let mut all = Vec::new();
            for offset in (0..).step_by(3) {
                let mut page = page(store, user, *id, 3, offset);
                if page.is_empty() {
                    break;
                }
                page.extend(all);
                all = page;
            }
            assert_eq!(all.len(), visible.len());
            for (found, (place, said)) in all.iter().zip(&visible) {
                let readers = chat
                    .members
                    .iter()
                    .filter(|(other, mark)| {
                        **other != said.sender && *mark > place && model.hears(**other, said.sender)
                    })
                    .count() as u64;
                let progress = match (readers, said.is_delivered) {
                    (1.., _) => Progress::Read,
                    (0, true) => Progress::Delivered,
                    (0, false) => Progress::Sent,
                };
                assert_eq!((found.id, found.read_by, found.progress), (said.id, readers, progress));
                assert_eq!(found.sender, USERS[said.sender]);
            }
        }
    }
    for user in 0..USERS.len() {
        for closed in [None, Some(true), Some(false)] {
            let by = caller(user);
            let list = read(store, SupportQuery::Sessions { by, closed, limit: 200, offset: 0 }).unwrap();
            let SupportAnswer::Sessions(list) = list else { panic!("{list:?}") };
            let is_listed = |chat: &Chat| {
                let is_agents = user < 2 && (chat.agent.is_none() || chat.agent == Some(user));
                (chat.members.contains_key(&user) || is_agents)
                    && closed.is_none_or(|closed| closed == chat.is_closed)
            };
            let expected: Vec<Uuid> =
                model.sessions.iter().rev().filter(|(_, chat)| is_listed(chat)).map(|(id, _)| *id).collect();
            assert_eq!(list.iter().map(|session| session.id).collect::<Vec<_>>(), expected);
        }
    }
}

fn carry_out(store: &mut Fixture, model: &mut Model, step: &Step, count: usize) {
    let sessions = model.sessions.len();
    let at = |index: &Index| index.index(sessions);
    match step {
        Step::Create(user, agent) => {
            let made = create(store, *user, *agent);
            let mut chat = Chat { agent: *agent, ..Chat::default() };
            chat.members.insert(*user, 0);
            chat.members.extend(agent.map(|agent| (agent, 0)));
            model.sessions.push((made.id, chat));
        }
        Step::Block(user, blocked) | Step::Unblock(user, blocked) => {
            let (by, of) = (USERS[*user].into(), USERS[*blocked].into());
            let (is_blocked, what) = match step {
                Step::Block(..) => (true, SupportWrite::Block { user: by, blocked: of }),
                _ => (false, SupportWrite::Unblock { user: by, blocked: of }),
            };
            let done = write(store, what);
            if user == blocked && is_blocked {
                assert!(matches!(done, Err(Refusal::Invalid { .. })));
                return;
            }
            assert_eq!(done, Ok(SupportAnswer::Done));
            let is_new = match is_blocked {
                true => model.blocks.insert((*user, *blocked)),
                false => model.blocks.remove(&(*user, *blocked)),
            };
            assert_eq!(told(store).len(), usize::from(is_new));
        }
        Step::Restart => store.restart(),
        _ if sessions == 0 => {}
        Step::Enter(user, session) => {
            let (at, id) = (at(session), model.sessions[at(session)].0);
            let done = write(store, SupportWrite::Enter { by: caller(*user), session: id });
            match model.enter(*user, at) {
                Err(refusal) => assert_eq!(done, Err(refusal)),
                Ok(_) => {
                    let is_closed = model.sessions[at].1.is_closed;
                    assert_eq!(done, Ok(SupportAnswer::Entered { is_closed }));
                    check_members(&told(store)[..], model, at);
                }
            }
        }
        Step::Say(user, session) => {
            let (at, id) = (at(session), model.sessions[at(session)].0);
            let done = say(store, *user, id, &format!("number {count}"));
            let entered = model.enter(*user, at);
            let chat = &mut model.sessions[at].1;
            match entered {
                Err(refusal) => assert_eq!(done.err(), Some(refusal)),
                Ok(_) if chat.is_closed => assert_eq!(done.err(), Some(Refusal::Closed)),
                Ok(is_new) => {
                    let message = done.unwrap();
                    chat.said.push(Said { id: message.id, sender: *user, is_delivered: false });
                    let mut effects = told(store);
                    let Some(SupportEffect::Message { to, message: sent }) = effects.pop() else { panic!() };
                    assert_eq!(sent, message);
                    let members: Vec<usize> = chat.members.keys().copied().collect();
                    let hear = members.into_iter().filter(|other| model.hears(*other, *user));
                    assert_eq!(set(&to), names(hear));
                    assert_eq!(effects.len(), usize::from(is_new));
                    if is_new {
                        check_members(&effects, model, at);
                    }
                }
            }
        }
        Step::Read(user, session, message) => {
            let (at, id) = (at(session), model.sessions[at(session)].0);
            let chat = &model.sessions[at].1;
            if chat.said.is_empty() {
                return;
            }
            let place = message.index(chat.said.len());
            let message = chat.said[place].id;
            let is_hidden = !model.hears(*user, chat.said[place].sender);
            let mut entering = model.clone();
            let done = write(store, SupportWrite::MarkRead { by: caller(*user), session: id, message });
            match entering.enter(*user, at) {
                Err(refusal) => assert_eq!(done, Err(refusal)),
                Ok(_) if is_hidden => {
                    assert_eq!(done, Err(Refusal::NotFound("message")));
                    assert!(told(store).is_empty());
                }
                Ok(is_new) => {
                    assert!(matches!(done, Ok(SupportAnswer::Read { .. })));
                    *model = entering;
                    let mark = model.sessions[at].1.members[user];
                    let mut effects = told(store);
                    assert_eq!(
                        effects.iter().any(|one| matches!(one, SupportEffect::Members { .. })),
                        is_new
                    );
                    effects.retain(|one| !matches!(one, SupportEffect::Members { .. }));
                    check_read(&effects, model, at, *user, mark..place + 1);
                    model.sessions[at].1.members.insert(*user, mark.max(place + 1));
                }
            }
        }
        Step::Deliver(session, message) => {
            let chat = &mut model.sessions[at(session)].1;
            if chat.said.is_empty() {
                return;
            }
            let place = message.index(chat.said.len());
            let said = &mut chat.said[place];
            said.is_delivered = true;
            write(store, SupportWrite::Delivered { message: said.id }).unwrap();
        }
        Step::Close(user, session) => {
            let (id, chat) = &mut model.sessions[at(session)];
            let done = write(store, SupportWrite::Close { by: caller(*user), session: *id });
            if *user >= 2 && !chat.members.contains_key(user) {
                assert_eq!(done, Err(Refusal::Forbidden));
                return;
            }
            assert_eq!(done, Ok(SupportAnswer::Closed));
            let was_closed = std::mem::replace(&mut chat.is_closed, true);
            let effects = told(store);
            assert_eq!(effects.len(), usize::from(!was_closed));
            if let [SupportEffect::Closed { to, .. }] = &effects[..] {
                assert_eq!(set(to), names(chat.members.keys().copied()));
            }
        }
    }
}

/// Each who hears the reader is told of the newest of what was read that he hears.
fn check_read(effects: &[SupportEffect], model: &Model, at: usize, reader: usize, read: Range<usize>) {
    let chat = &model.sessions[at].1;
    let newest = |user: usize| {
        let mut places = read.clone().rev();
        places.find_map(|place| Some(&chat.said[place]).filter(|said| model.hears(user, said.sender)))
    };
    let others = chat.members.keys().filter(|user| **user != reader && model.hears(**user, reader));
    let expected: Vec<(String, Uuid)> =
        others.filter_map(|user| Some((USERS[*user].to_owned(), newest(*user)?.id))).collect();
    let mut found = Vec::new();
    for effect in effects {
        let SupportEffect::Read { to, by, message, .. } = effect else { panic!("{effect:?}") };
        assert_eq!(by, USERS[reader]);
        found.extend(to.iter().map(|user| (user.to_string(), *message)));
    }
    assert_eq!(found.len(), expected.len());
    assert_eq!(BTreeSet::from_iter(found), BTreeSet::from_iter(expected));
}

fn check_members(effects: &[SupportEffect], model: &Model, at: usize) {
    let [SupportEffect::Members { members, .. }] = effects else { panic!("{effects:?}") };
    let chat = &model.sessions[at].1;
    let all = |members: &[Member]| -> BTreeMap<String, BTreeSet<String>> {
        members.iter().map(|member| (member.user.to_string(), set(&member.blocks))).collect()
    };
    let expected = chat.members.keys().map(|user| {
        let blocked = chat.members.keys().copied().filter(|other| !model.hears(*user, *other));
        (USERS[*user].to_owned(), names(blocked))
    });
    assert_eq!(all(members), expected.collect());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn all_counts_agree_with_a_recount(steps in prop::collection::vec(step(), 1..60)) {
        let (mut store, mut model) = (Fixture::new(), Model::default());
        for (count, step) in steps.iter().enumerate() {
            carry_out(&mut store, &mut model, step, count);
            store.told();
        }
        check(&mut store, &model);
        store.restart();
        check(&mut store, &model);
    }
}

#[test]
fn a_participant_is_as_his_token_says() {
    let mut store = Fixture::new();
    let session = create(&mut store, 2, Some(0));
    write(&mut store, SupportWrite::Enter { by: caller(1), session: session.id }).unwrap();
    let list = read(&mut store, SupportQuery::Participants { by: caller(2), session: session.id }).unwrap();
    let SupportAnswer::Participants(list) = list else { panic!("{list:?}") };
    let roles: Vec<_> = list.iter().map(|one| (&*one.user, one.role, one.is_active)).collect();
    assert_eq!(roles, [("ada", Role::User, true), ("gus", Role::Agent, true), ("zoe", Role::Agent, true)]);
    assert!(list.iter().all(|one| one.last_read_at.is_none()));
    assert!(list[2].joined_at > list[0].joined_at);
    write(&mut store, SupportWrite::Close { by: caller(1), session: session.id }).unwrap();
    let list = read(&mut store, SupportQuery::Participants { by: caller(2), session: session.id }).unwrap();
    assert!(matches!(list, SupportAnswer::Participants(list) if list.iter().all(|one| !one.is_active)));
}

#[test]
fn a_session_starts_when_an_agent_takes_part() {
    let mut store = Fixture::new();
    let session = create(&mut store, 2, Some(0)).id;
    let started = |store: &mut Fixture| match read(store, SupportQuery::Session { by: caller(2), session }) {
        Ok(SupportAnswer::Session(seen)) => seen.started_at,
        other => panic!("{other:?}"),
    };
    say(&mut store, 2, session, "hello?").unwrap();
    assert_eq!(started(&mut store), None);
    say(&mut store, 0, session, "yes").unwrap();
    let at = store.now;
    say(&mut store, 0, session, "what is it").unwrap();
    assert_eq!(started(&mut store), Some(at));
}

#[test]
fn there_are_not_more_participants_than_a_message_can_be_handed_to() {
    let mut store = Fixture::new();
    let session = create(&mut store, 2, None).id;
    let enter = |store: &mut Fixture, number: usize| {
        let by = Caller { user: format!("agent-{number}").into(), is_agent: true };
        write(store, SupportWrite::Enter { by, session })
    };
    for number in 1..64 {
        enter(&mut store, number).unwrap();
    }
    assert_eq!(enter(&mut store, 64), Err(Refusal::Full));
    enter(&mut store, 63).unwrap();
}

#[test]
fn what_is_refused_makes_nobody_a_participant() {
    let mut store = Fixture::new();
    let session = create(&mut store, 2, None).id;
    let other = create(&mut store, 3, None).id;
    let elsewhere = say(&mut store, 3, other, "elsewhere").unwrap().id;
    store.told();
    let message = NewChatMessage { reply_to: Some(elsewhere), ..text("an answer") };
    let by = caller(0);
    let refused = [
        write(&mut store, SupportWrite::Send { by: by.clone(), session, message }),
        write(&mut store, SupportWrite::MarkRead { by, session, message: elsewhere }),
    ];
    assert!(refused.iter().all(|answer| *answer == Err(Refusal::NotFound("message"))), "{refused:?}");
    assert!(told(&mut store).is_empty());
    let query = SupportQuery::Participants { by: caller(2), session };
    let Ok(SupportAnswer::Participants(list)) = read(&mut store, query) else { panic!("no list") };
    assert_eq!(list.len(), 1);
    let seen = read(&mut store, SupportQuery::Session { by: caller(2), session });
    assert!(matches!(seen, Ok(SupportAnswer::Session(seen)) if seen.started_at.is_none()));
}
