//! What comes of the store: who is told of a change, what the store is told in return, and who of a user's contacts is
//! told that the user has come or gone (`spec/conversation.md`, "Lifecycle").
//!
//! The router does not know the store: the loop carries [`Router::to_store`] there, and brings what it says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use smol_str::SmolStr;

use crate::app::conversation::{self, Delivered, NotSaid};
use crate::app::mobile;
use crate::audience::App;
use crate::close::ErrorCode;
use crate::mailbox::{Asker, FromStore, Request, ToShard, ToStore};
use crate::metrics::IngestResult;
use crate::proto::ingest::reply;
use crate::record::{Answer, Effect, Query, Refusal, Write};
use crate::room::interest::Interest;
use crate::room::publication::{Publication, Target};
use crate::router::counted::Waiter;
use crate::router::kept::KeptLines;
use crate::router::presence::Presences;
use crate::router::publisher::Publisher;
use crate::router::replies::{Counted, publisher_of, ticket};
use crate::router::{Post, Router};
use crate::time::Now;
use crate::users::User;

/// Receipts and questions of presence that wait for the store; more are not asked. Nothing is lost with them but that a
/// sender, or a contact, is told.
const WAITING: usize = 64 * 1024;
/// How long what the store had no room for waits.
const AGAIN: Duration = Duration::from_millis(10);

/// What the router does with an answer of the store's.
enum Question {
    /// Tells these contacts.
    Contacts { user: SmolStr, username: Option<SmolStr>, is_online: bool },
    /// Answers the publisher.
    Line { number: u64, id: Option<Box<str>> },
    /// Publishes a line for this user, of which something is kept now.
    Kept { user: SmolStr },
}

/// What the router knows of chat.
#[derive(Default)]
pub struct Chat {
    /// Users with connections in the app `conversation`.
    presences: Presences,
    /// What their contacts are shown of those whose tokens say it.
    names: HashMap<SmolStr, SmolStr, ahash::RandomState>,
    /// By ticket.
    questions: HashMap<u64, Question, ahash::RandomState>,
    to_store: VecDeque<ToStore>,
    /// Lines that wait for the store.
    pub(super) kept: KeptLines,
}

impl Chat {
    fn write(&mut self, asker: Asker, what: Write, now: Now) {
        self.to_store.push_back(ToStore::Write(Request { asker, at: now.unix_ms(), what }));
    }

    /// Has something of a line for this user kept.
    pub(super) fn ask_to_keep(&mut self, ticket: u64, user: SmolStr, what: Write, now: Now) {
        self.questions.insert(ticket, Question::Kept { user });
        self.write(Asker::Router { ticket }, what, now);
    }

    /// Tells the store who was reached.
    pub fn receipts(&mut self, receipts: &mut Vec<Write>, now: Now) {
        for receipt in receipts.drain(..) {
            if self.to_store.len() < WAITING {
                self.write(Asker::Nobody, receipt, now);
            }
        }
    }

    /// When the next user counts as gone, or the store is to be asked again; monotonic ns.
    pub fn next_deadline(&self, now: Now) -> Option<u64> {
        let again = (!self.to_store.is_empty()).then(|| now.plus(AGAIN).mono);
        self.presences.next_deadline().into_iter().chain(again).min()
    }
}

impl Router {
    /// What is to be asked of the store, oldest first. What it has no room for stays.
    pub fn to_store(&mut self) -> &mut VecDeque<ToStore> {
        &mut self.chat.to_store
    }

    /// Takes what the store says.
    pub fn from_store(&mut self, said: FromStore, now: Now, post: &mut impl Post) {
        match said {
            FromStore::Effect(Effect::Support(effect)) => self.tell_support(effect, now, post),
            FromStore::Effect(effect) => self.tell(&effect, now, post),
            FromStore::Answer { asker: Asker::Router { ticket }, answer } => {
                self.answered(ticket, &answer, now, post);
            }
            FromStore::Answer { asker, answer } => {
                let shard = match asker {
                    Asker::Client { client, .. } => client.shard,
                    Asker::Http { shard, .. } => shard,
                    Asker::Router { .. } | Asker::Login { .. } | Asker::Nobody => return,
                };
                post.post(shard, ToShard::Stored { asker, answer });
            }
        }
    }

    /// Publishes what follows from a change.
    fn tell(&mut self, effect: &Effect, now: Now, post: &mut impl Post) {
        if let Effect::Mobile(effect) = effect {
            for publication in mobile::tell(effect, now) {
                self.publish_chat(publication, None, post);
            }
        }
        for told in conversation::tell(effect, now) {
            let is_there = |room| self.in_use(&room).is_some_and(|key| !self.interest(key).is_empty());
            if told.unless.is_some_and(is_there) {
                continue;
            }
            let receipt = told.delivered.map(|Delivered { conversation, message, to }| {
                Waiter::Receipt(Write::Delivered { to, conversation, message })
            });
            self.publish_chat(told.publication, receipt, post);
        }
    }

    /// Publishes to those who chat now: of who is not there, no room need be known. Chat has no offsets, and what was missed
    /// the store knows.
    pub(super) fn publish_chat(
        &mut self,
        mut publication: Publication,
        receipt: Option<Waiter>,
        post: &mut impl Post,
    ) {
        let (room, interest) = match publication.target {
            Target::User if publication.app == Some(App::Conversation) => {
                (None, self.chat.presences.shards(publication.name()))
            }
            Target::User => (None, self.presences.shards(publication.name())),
            Target::Room | Target::Broadcast => {
                let room = self.rooms.find(publication.name_hash(), publication.name());
                (room, room.map_or(Interest::default(), |room| self.interest(room)))
            }
        };
        if interest.is_empty() {
            return;
        }
        if let Some(receipt) = receipt {
            self.next_ticket += 1;
            publication.ticket = self.counted.wait(self.next_ticket, receipt, interest.len(), post);
        }
        self.post(publication, room, None, interest, post);
    }

    /// Tells each of these users who chats now.
    pub(super) fn tell_users(&mut self, publication: &Publication, users: &[SmolStr], post: &mut impl Post) {
        for user in users {
            if !self.chat.presences.shards(user).is_empty() {
                self.publish_chat(publication.to_user(user), None, post);
            }
        }
    }

    /// The answer to a question of the router's own.
    fn answered(&mut self, ticket: u64, answer: &Result<Answer, Refusal>, now: Now, post: &mut impl Post) {
        match self.chat.questions.remove(&ticket) {
            Some(Question::Contacts { user, username, is_online }) => {
                let Ok(Answer::Contacts(contacts)) = answer else { return };
                let coming = conversation::coming(&user, username.as_deref(), is_online, now);
                self.tell_users(&coming, contacts, post);
            }
            Some(Question::Line { number, id }) => {
                let key = publisher_of(ticket);
                let Some(publisher) = self.publisher(key) else { return };
                let write = |out: &mut Vec<u8>| write_answer(out, number, id.as_deref(), answer);
                let is_there = publisher.replies.settle(ticket, write);
                publisher.errors += u64::from(is_there && answer.is_err());
                self.count(if answer.is_ok() { IngestResult::Operation } else { IngestResult::Rejected });
                self.send(key);
            }
            Some(Question::Kept { user }) => self.line_kept(&user, ticket, answer, now, post),
            None => {}
        }
    }

    /// Carries out a publisher's change; its line is answered when that is durable.
    pub(super) fn store_line(
        &mut self,
        key: usize,
        publisher: &mut Publisher,
        (number, id): (u64, Option<&str>),
        what: Write,
        now: Now,
    ) {
        if !self.settings.keeps[App::Conversation.index()] {
            let message = "this server keeps no conversations: switch on apps.conversation";
            return self.refuse(publisher, number, id, ErrorCode::NotFound, message);
        }
        self.next_ticket += 1;
        let ticket = ticket(key, self.next_ticket);
        publisher.replies.wait(ticket, 1, Counted::Stored);
        self.chat.questions.insert(ticket, Question::Line { number, id: id.map(Box::from) });
        self.chat.write(Asker::Router { ticket }, what, now);
    }

    /// A shard has a first connection of a user who chats.
    pub(super) fn chat_up(&mut self, user: &Arc<User>, username: Option<SmolStr>, shard: u8, now: Now) {
        if let Some(username) = username {
            self.chat.names.insert(user.id().clone(), username);
        }
        if self.chat.presences.up(user, shard) {
            self.ask_contacts(user.id(), true, now);
        }
    }

    /// A shard has no connection of a user any more who chats.
    pub(super) fn chat_down(&mut self, user: &Arc<User>, shard: u8, now: Now) {
        self.chat.presences.down(user, shard, now);
    }

    /// Users whose grace is over have gone.
    pub(super) fn tick_chat(&mut self, now: Now) {
        while let Some(user) = self.chat.presences.next_gone(now) {
            self.ask_contacts(&user, false, now);
            self.chat.names.remove(&user);
        }
    }

    fn ask_contacts(&mut self, user: &SmolStr, is_online: bool, now: Now) {
        if self.chat.to_store.len() >= WAITING {
            return;
        }
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let username = self.chat.names.get(user).cloned();
        self.chat.questions.insert(ticket, Question::Contacts { user: user.clone(), username, is_online });
        let what = Query::Contacts { user: user.clone(), limit: Query::MOST_CONTACTS };
        let request = Request { asker: Asker::Router { ticket }, at: now.unix_ms(), what };
        self.chat.to_store.push_back(ToStore::Read(request));
    }
}

/// The answer to a line that asked for a change.
fn write_answer(out: &mut Vec<u8>, number: u64, id: Option<&str>, answer: &Result<Answer, Refusal>) {
    match answer {
        Ok(Answer::Conversation { conversation, first }) => {
            reply::write_conversation(out, id, conversation.id, !first);
        }
        Ok(Answer::Sent { message, first }) => {
            reply::write_message(out, id, message.conversation, message.id, !first);
        }
        // No line asks for anything else.
        Ok(_) => {}
        Err(refusal) => {
            let NotSaid { code, message } = NotSaid::from(refusal);
            reply::write_error(out, number, id, code, &message);
        }
    }
}
