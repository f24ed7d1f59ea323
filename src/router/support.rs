//! Support sessions: what the store says of them is passed on, and who is connected and types is counted over all shards
//! (`spec/support.md`).

use std::sync::Arc;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::support::{self, Told};
use crate::mailbox::ToShard;
use crate::mailbox::support::{SupportNews, SupportWord};
use crate::record::support::SupportEffect;
use crate::room::interest::Interest;
use crate::room::name::RoomName;
use crate::router::counted::Waiter;
use crate::router::{Post, Router};
use crate::time::Now;

pub use sessions::SupportSessions;

mod sessions;

impl Router {
    /// Passes on what the store says.
    pub(super) fn tell_support(&mut self, effect: SupportEffect, now: Now, post: &mut impl Post) {
        for told in support::tell(&effect, now) {
            self.publish_support(told, post);
        }
        match effect {
            SupportEffect::Members { session, members } => {
                self.support.set_members(session, members, now);
            }
            SupportEffect::Blocked { user, blocked, is_blocked } => {
                self.support.set_blocked(&user, &blocked, is_blocked);
            }
            SupportEffect::Closed { session, to, .. } => self.close_support(session, to, post),
            SupportEffect::Message { .. } | SupportEffect::Read { .. } => {}
        }
    }

    /// Takes what a shard says.
    pub(super) fn support_news(&mut self, news: SupportNews, now: Now, post: &mut impl Post) {
        match news {
            SupportNews::Came { client, session, user } => {
                let (is_first, users) = self.support.came(session, &user);
                if is_first {
                    return self.tell_coming((session, &user, true, users), now, post);
                }
                post.post(client.shard, ToShard::Support(SupportWord::Here { client, users }));
            }
            SupportNews::Went { session, user } => {
                if let Some(users) = self.support.went(session, &user, now) {
                    self.tell_coming((session, &user, false, users), now, post);
                }
            }
            SupportNews::Types { session, user, is_typing } => {
                if self.support.types(session, &user, is_typing, now) {
                    let to = self.support.others(session, &user);
                    for told in support::typing(session, &user, is_typing, &to, now) {
                        self.publish_support(told, post);
                    }
                }
            }
            SupportNews::Count { shard, conn, serial } => {
                let census = self.support.census();
                post.post(shard, ToShard::Support(SupportWord::Census { conn, serial, census }));
            }
        }
    }

    fn tell_coming(
        &mut self,
        (session, user, is_here, users): (Uuid, &SmolStr, bool, u64),
        now: Now,
        post: &mut impl Post,
    ) {
        let to = self.support.all(session);
        for told in support::coming(session, user, is_here, users, &to, now) {
            self.publish_support(told, post);
        }
    }

    /// The shards with members of a room, and its key there.
    fn seats_of(&self, hash: u64, name: &str) -> (Option<u32>, Interest) {
        let room = self.rooms.find(hash, name);
        (room, room.map_or(Interest::default(), |room| self.interest(room)))
    }

    /// Publishes to the two rooms of a participant, if anybody is there.
    fn publish_support(&mut self, told: Told, post: &mut impl Post) {
        let Told { mut publication, also, delivered } = told;
        let (home, here) = self.seats_of(publication.name_hash(), publication.name());
        let (feed, elsewhere) = self.seats_of(also.hash(), also.as_str());
        let interest = here.union(elsewhere);
        if interest.is_empty() {
            return;
        }
        if let Some(receipt) = delivered {
            self.next_ticket += 1;
            let waiter = Waiter::Receipt(receipt);
            publication.ticket = self.counted.wait(self.next_ticket, waiter, interest.len(), post);
        }
        self.post(publication, home, feed.filter(|_| !elsewhere.is_empty()), interest, post);
    }

    /// All who are connected to the session have been told that it is closed: their connections end behind that.
    fn close_support(&mut self, session: Uuid, to: Vec<SmolStr>, post: &mut impl Post) {
        let rooms = to.iter().map(|user| RoomName::support(session, user));
        let shards = rooms
            .fold(Interest::default(), |all, room| all.union(self.seats_of(room.hash(), room.as_str()).1));
        let users: Arc<[SmolStr]> = to.into();
        for shard in shards.shards() {
            post.post(shard, ToShard::Support(SupportWord::Closed { session, users: Arc::clone(&users) }));
        }
    }
}
