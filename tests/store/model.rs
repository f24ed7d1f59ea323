//! Random operations of several users, against a naive model in memory: the same answers, the same effects, the same
//! lists, and counts of unread messages that agree with a recount.

use fanfare::record::{Answer, Effect, Message, NewMessage, Person, Query, Refusal, Write};
use fanfare::store::Database;
use proptest::prelude::*;
use smol_str::SmolStr;
use uuid::Uuid;

use crate::fixture::{Fixture, ephemeral, named, person, words};

/// Far ahead of any clock, so that the store's own clock lets no photo expire.
const FUTURE: u64 = 4_102_444_800_000;

const USERS: [&str; 4] = ["anna", "bert", "cleo", "dora"];

/// What happens. Indices are taken modulo what there is.
#[derive(Clone, Debug)]
enum Operation {
    Create { by: usize, with: usize },
    Send { by: usize, conversation: usize, name: Option<u8>, ttl: Option<u32> },
    System { conversation: usize },
    Read { by: usize, message: usize },
    Delete { by: usize, message: usize },
    Delivered { to: usize, message: usize },
    Wait { ms: u64 },
}

fn operation() -> impl Strategy<Value = Operation> {
    let user = 0..USERS.len();
    let ttl = prop_oneof![3 => Just(None), 1 => (1u32..4).prop_map(Some)];
    let name = prop_oneof![2 => Just(None), 1 => (0u8..6).prop_map(Some)];
    let index = 0usize..40;
    prop_oneof![
        2 => (user.clone(), user.clone()).prop_map(|(by, with)| Operation::Create { by, with }),
        8 => (user.clone(), index.clone(), name, ttl)
            .prop_map(|(by, conversation, name, ttl)| Operation::Send { by, conversation, name, ttl }),
        1 => index.clone().prop_map(|conversation| Operation::System { conversation }),
        4 => (user.clone(), index.clone()).prop_map(|(by, message)| Operation::Read { by, message }),
        3 => (user.clone(), index.clone()).prop_map(|(by, message)| Operation::Delete { by, message }),
        1 => (user, index).prop_map(|(to, message)| Operation::Delivered { to, message }),
        2 => (0u64..3_000).prop_map(|ms| Operation::Wait { ms }),
    ]
}

#[derive(Clone)]
struct ModelMessage {
    message: Message,
    conversation: usize,
    read_by: Vec<SmolStr>,
    is_delivered: bool,
    ttl: Option<u32>,
    expires_at: Option<u64>,
    deleted_by: Option<SmolStr>,
}

struct ModelConversation {
    id: Uuid,
    users: [SmolStr; 2],
    last_activity: u64,
    /// When each has read last.
    read_at: [u64; 2],
}

/// All messages in one list, looked through from end to end for everything.
#[derive(Default)]
struct Model {
    known: Vec<SmolStr>,
    conversations: Vec<ModelConversation>,
    messages: Vec<ModelMessage>,
}

impl ModelMessage {
    fn is_unread_for(&self, user: &str) -> bool {
        self.message.deleted_at.is_none()
            && self.message.sender.as_deref() != Some(user)
            && !self.read_by.iter().any(|reader| reader == user)
    }

    /// As the user is shown it.
    fn seen_by(&self, user: &str, users: &[SmolStr; 2]) -> Message {
        let recipient = match self.message.sender.as_deref() {
            Some(sender) => users.iter().find(|user| *user != sender).unwrap(),
            None => user,
        };
        let is_read = self.read_by.iter().any(|reader| reader == recipient);
        Message { is_read, ..self.message.clone() }
    }
}

impl Model {
    fn know(&mut self, user: &str) {
        if !self.known.iter().any(|known| known == user) {
            self.known.push(user.into());
        }
    }

    fn person(&self, user: &SmolStr) -> Person {
        match self.known.contains(user) {
            true => person(user),
            false => Person::unknown(user.clone()),
        }
    }

    fn unread(&self, user: &str, conversation: usize) -> u64 {
        let unread =
            |message: &&ModelMessage| message.conversation == conversation && message.is_unread_for(user);
        self.messages.iter().filter(unread).count() as u64
    }

    /// Newest first.
    fn history(&self, user: &str, conversation: usize) -> Vec<Message> {
        let users = &self.conversations[conversation].users;
        let live = self
            .messages
            .iter()
            .filter(|message| message.conversation == conversation && message.message.deleted_at.is_none());
        live.rev().map(|message| message.seen_by(user, users)).collect()
    }

    /// Newest activity first; what was made later comes first where that is the same.
    fn list(&self, user: &str) -> Vec<usize> {
        let mut own: Vec<usize> = (0..self.conversations.len())
            .filter(|index| self.conversations[*index].users.iter().any(|own| own == user))
            .collect();
        own.sort_by_key(|index| std::cmp::Reverse((self.conversations[*index].last_activity, *index)));
        own
    }

    fn create(&mut self, store: &mut Fixture, by: &str, with: &str) {
        let answer = store.create(by, with);
        if by == with {
            assert!(matches!(answer, Err(Refusal::Invalid { .. })));
            assert_eq!(store.told(), []);
            return;
        }
        self.know(by);
        let mut users: [SmolStr; 2] = [by.into(), with.into()];
        users.sort();
        let (conversation, first) = answer.unwrap();
        let index = self.conversations.iter().position(|known| known.users == users);
        assert_eq!(first, index.is_none());
        let told = match index {
            Some(_) => vec![],
            None => {
                let (id, last_activity) = (conversation.id, store.now);
                self.conversations.push(ModelConversation {
                    id,
                    users: users.clone(),
                    last_activity,
                    read_at: [0; 2],
                });
                vec![Effect::ConversationNew { conversation: id, participants: users }]
            }
        };
        assert_eq!(store.told(), told);
        let index = index.unwrap_or(self.conversations.len() - 1);
        self.compare(&conversation, by, index);
    }

    fn compare(&self, found: &fanfare::record::Conversation, user: &str, index: usize) {
        let expected = &self.conversations[index];
        assert_eq!(found.id, expected.id);
        assert_eq!(found.participants, expected.users.clone().map(|user| self.person(&user)));
        assert_eq!(found.last_activity, expected.last_activity);
        assert_eq!(found.unread, self.unread(user, index));
        assert_eq!(found.last_message, self.history(user, index).into_iter().next());
    }

    fn send(&mut self, store: &mut Fixture, by: Option<&str>, conversation: usize, new: NewMessage) {
        let (id, users) =
            (self.conversations[conversation].id, self.conversations[conversation].users.clone());
        let write = Write::Send { by: by.map(person), conversation: id, message: new.clone() };
        let answer = store.write(write);
        if by.is_some_and(|by| !users.iter().any(|user| user == by)) {
            assert_eq!((answer, store.told()), (Err(Refusal::Forbidden), vec![]));
            return;
        }
        let Ok(Answer::Sent { message, first }) = answer else { panic!("{answer:?}") };
        let repeated = self.messages.iter().find(|known| {
            new.client_message_id.is_some()
                && known.message.client_message_id == new.client_message_id
                && known.message.sender.as_deref() == by
        });
        if let (Some(repeated), Some(by)) = (repeated, by) {
            let users = &self.conversations[repeated.conversation].users;
            assert_eq!((message, first), (repeated.seen_by(by, users), false));
            assert_eq!(store.told(), []);
            return;
        }
        assert!(first);
        if let Some(by) = by {
            self.know(by);
        }
        let expected = Message {
            id: message.id,
            conversation: id,
            sender: by.map(SmolStr::from),
            kind: new.kind,
            content: new.content,
            metadata: new.metadata,
            client_message_id: new.client_message_id,
            created_at: store.now,
            updated_at: store.now,
            is_read: false,
            deleted_at: None,
        };
        assert_eq!(message, expected);
        self.conversations[conversation].last_activity = store.now;
        self.messages.push(ModelMessage {
            message: message.clone(),
            conversation,
            read_by: vec![],
            is_delivered: false,
            ttl: new.ttl_seconds,
            expires_at: None,
            deleted_by: None,
        });
        let others = users.iter().filter(|user| Some(user.as_str()) != by);
        let unread = others.map(|user| (user.clone(), self.unread(user, conversation))).collect();
        let told = Effect::MessageNew { participants: users, message, sender: by.map(person), unread };
        assert_eq!(store.told(), [told]);
    }

    /// The message with this index, or a refusal where the user has no part in its conversation.
    fn place(&self, user: &str, message: usize) -> (Uuid, Uuid, usize, Option<usize>) {
        let target = &self.messages[message];
        let conversation = &self.conversations[target.conversation];
        let place = conversation.users.iter().position(|own| own == user);
        (conversation.id, target.message.id, target.conversation, place)
    }

    fn read(&mut self, store: &mut Fixture, by: &str, index: usize) {
        let (id, message, conversation, place) = self.place(by, index);
        let answer = store.see(by, id, message);
        let Some(place) = place else {
            assert_eq!((answer, store.told()), (Err(Refusal::Forbidden), vec![]));
            return;
        };
        self.know(by);
        let now = store.now;
        // Reading marks one's own messages too: what matters is where one has read up to.
        let is_further = !self.messages[index].read_by.iter().any(|reader| reader == by);
        let before = self.unread(by, conversation);
        if is_further {
            for earlier in
                self.messages[..=index].iter_mut().filter(|earlier| earlier.conversation == conversation)
            {
                if !earlier.read_by.iter().any(|reader| reader == by) {
                    earlier.read_by.push(by.into());
                }
                let is_photo =
                    earlier.message.deleted_at.is_none() && earlier.message.sender.as_deref() != Some(by);
                if let (Some(ttl), None, true) = (earlier.ttl, earlier.expires_at, is_photo) {
                    earlier.expires_at = Some(now + u64::from(ttl) * 1_000);
                }
            }
            self.conversations[conversation].read_at[place] = now;
        }
        let viewed_at = self.conversations[conversation].read_at[place];
        let unread = self.unread(by, conversation);
        let first = unread < before;
        assert_eq!(answer, Ok(Answer::Viewed { conversation: id, message, viewed_at, unread, first }));
        let participants = self.conversations[conversation].users.clone();
        let told =
            Effect::Viewed { conversation: id, participants, message, by: by.into(), viewed_at, unread };
        assert_eq!(store.told(), if first { vec![told] } else { vec![] });
    }

    /// Takes a message out, and tells what others should be told.
    fn erase(&mut self, index: usize, by: Option<&str>, at: u64) -> Effect {
        let conversation = self.messages[index].conversation;
        let participants = self.conversations[conversation].users.clone();
        let were_unread = participants.clone().map(|user| self.messages[index].is_unread_for(&user));
        let erased = &mut self.messages[index];
        erased.message.content = "".into();
        erased.message.metadata = None;
        erased.message.deleted_at = Some(at);
        erased.message.updated_at = at;
        erased.expires_at = None;
        erased.deleted_by = by.map(SmolStr::from);
        let message = erased.message.id;
        let unread: Vec<(SmolStr, u64)> = participants
            .iter()
            .zip(were_unread)
            .filter(|(_, was_unread)| *was_unread)
            .map(|(user, _)| (user.clone(), self.unread(user, conversation)))
            .collect();
        let remains = |other: &&ModelMessage| {
            other.conversation == conversation && other.message.deleted_at.is_none() && !unread.is_empty()
        };
        let last = self.messages.iter().rfind(remains).map(|last| Box::new(last.message.clone()));
        let conversation = self.conversations[conversation].id;
        Effect::Deleted { conversation, participants, message, by: by.map(SmolStr::from), at, unread, last }
    }

    fn delete(&mut self, store: &mut Fixture, by: &str, index: usize) {
        let (id, message, _, place) = self.place(by, index);
        let answer = store.delete(by, id, message);
        if place.is_none() {
            assert_eq!((answer, store.told()), (Err(Refusal::Forbidden), vec![]));
            return;
        }
        let target = &self.messages[index];
        let deleted =
            |by: Option<SmolStr>, at, first| Ok(Answer::Deleted { conversation: id, message, by, at, first });
        if let Some(at) = target.message.deleted_at {
            assert_eq!(answer, deleted(target.deleted_by.clone(), at, false));
            assert_eq!(store.told(), []);
            return;
        }
        self.know(by);
        assert_eq!(answer, deleted(Some(by.into()), store.now, true));
        let told = self.erase(index, Some(by), store.now);
        assert_eq!(store.told(), [told]);
    }

    fn delivered(&mut self, store: &mut Fixture, to: &str, index: usize) {
        let (conversation, message, _, place) = self.place(to, index);
        let answer = store.write(Write::Delivered { to: to.into(), conversation, message });
        if place.is_none() {
            assert_eq!((answer, store.told()), (Err(Refusal::Forbidden), vec![]));
            return;
        }
        let target = &mut self.messages[index];
        let sender = target.message.sender.clone();
        let first = !target.is_delivered && sender.as_deref() != Some(to);
        target.is_delivered |= first;
        assert_eq!(answer, Ok(Answer::Delivered { first }));
        let delivered_at = store.now;
        let told = sender.map(|sender| Effect::Delivered { conversation, message, sender, delivered_at });
        assert_eq!(store.told(), told.into_iter().filter(|_| first).collect::<Vec<_>>());
    }

    fn wait(&mut self, store: &mut Fixture, ms: u64) {
        store.now += ms;
        let answer = store.write(Write::Expire);
        let now = store.now;
        let mut due: Vec<(u64, usize)> = (0..self.messages.len())
            .filter_map(|index| self.messages[index].expires_at.map(|at| (at, index)))
            .filter(|(at, _)| *at <= now)
            .collect();
        due.sort();
        assert_eq!(answer, Ok(Answer::Expired { count: due.len() }));
        let told: Vec<Effect> = due.into_iter().map(|(_, index)| self.erase(index, None, now)).collect();
        assert_eq!(store.told(), told);
    }

    fn carry_out(&mut self, store: &mut Fixture, operation: &Operation) {
        let (conversations, messages) = (self.conversations.len(), self.messages.len());
        match *operation {
            Operation::Create { by, with } => self.create(store, USERS[by], USERS[with]),
            Operation::Send { by, conversation, name, ttl } if conversations > 0 => {
                let mut new = ttl.map_or_else(|| words(&format!("message {messages}")), ephemeral);
                new.client_message_id = name.and_then(|name| named(&name.to_string(), "").client_message_id);
                self.send(store, Some(USERS[by]), conversation % conversations, new);
            }
            Operation::System { conversation } if conversations > 0 => {
                self.send(store, None, conversation % conversations, words("from a backend"));
            }
            Operation::Read { by, message } if messages > 0 => {
                self.read(store, USERS[by], message % messages)
            }
            Operation::Delete { by, message } if messages > 0 => {
                self.delete(store, USERS[by], message % messages)
            }
            Operation::Delivered { to, message } if messages > 0 => {
                self.delivered(store, USERS[to], message % messages);
            }
            Operation::Wait { ms } => self.wait(store, ms),
            _ => {}
        }
    }

    /// Everything that can be read, for everybody.
    fn compare_all(&self, store: &mut Fixture) {
        for user in USERS {
            let expected = self.list(user);
            let found = store.conversations(user, 100, None);
            assert_eq!(found.len(), expected.len());
            for (found, index) in found.iter().zip(&expected) {
                self.compare(found, user, *index);
            }
            let with_unread: Vec<usize> =
                expected.iter().copied().filter(|index| self.unread(user, *index) > 0).collect();
            let found = store.unread(user);
            assert_eq!(found.len(), with_unread.len());
            for (found, index) in found.iter().zip(&with_unread) {
                self.compare(found, user, *index);
            }
            let contacts: Vec<String> = expected
                .iter()
                .map(|index| {
                    self.conversations[*index].users.iter().find(|other| *other != user).unwrap().to_string()
                })
                .collect();
            assert_eq!(store.contacts(user), contacts);
            for index in expected {
                let found = store.history(user, self.conversations[index].id);
                assert_eq!(found, self.history(user, index));
            }
        }
        let mut due: Vec<(u64, Uuid)> = self
            .messages
            .iter()
            .filter_map(|message| message.expires_at.map(|at| (at, message.message.id)))
            .collect();
        due.sort();
        let ids = due.into_iter().map(|(_, id)| id).collect();
        assert_eq!(store.read(Query::Due { now: u64::MAX >> 1 }), Ok(Answer::Due(ids)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_store_agrees_with_a_naive_model(operations in prop::collection::vec(operation(), 1..80)) {
        let mut store = Fixture::new();
        store.now = FUTURE;
        let mut model = Model::default();
        for operation in &operations {
            model.carry_out(&mut store, operation);
        }
        model.compare_all(&mut store);
        store.restart();
        model.compare_all(&mut store);
        let path = store.path().to_owned();
        prop_assert_eq!(Database::open(&path).unwrap().miscounts().unwrap(), vec![]);
    }
}
