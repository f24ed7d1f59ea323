//! Support sessions: what the store says of them is passed on, and who is connected and types is counted over all shards
//! (`spec/support.md`).

use std::sync::Arc;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::support::{self, Told};
use crate::mailbox::ToShard;
use crate::mailbox::support::{SupportNews, SupportWord};
use crate::record::Write;
use crate::record::support::SupportEffect;
use crate::room::interest::Interest;
use crate::room::name::RoomName;
use crate::room::publication::Publication;
use crate::router::counted::Waiter;
use crate::router::{Post, Router};
use crate::time::Now;

pub use sessions::SupportSessions;

mod sessions;

/// A publication, and where it goes.
struct Way {
    publication: Publication,
    /// The key of its own room.
    home: Option<u32>,
    /// And of the other one.
    feed: Option<u32>,
    interest: Interest,
    counts: bool,
}

impl Router {
    /// Passes on what the store says.
    pub(super) fn tell_support(&mut self, effect: SupportEffect, now: Now, post: &mut impl Post) {
        self.publish_support(support::tell(&effect, now), support::receipt(&effect), post);
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
                    self.publish_support(support::typing(session, &user, is_typing, &to, now), None, post);
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
        self.publish_support(support::coming(session, user, is_here, users, &to, now), None, post);
    }

    /// The shards with members of a room, and its key there.
    fn seats_of(&self, hash: u64, name: &str) -> (Option<u32>, Interest) {
        let room = self.rooms.find(hash, name);
        (room, room.map_or(Interest::default(), |room| self.interest(room)))
    }

    /// Publishes to the two rooms of each participant of whom anybody is there. However many it reaches, the store is given
    /// one receipt.
    fn publish_support(&mut self, told: Vec<Told>, receipt: Option<Write>, post: &mut impl Post) {
        let ways: Vec<Way> = told.into_iter().filter_map(|told| self.way_of(told)).collect();
        let shards = ways.iter().filter(|way| way.counts).map(|way| way.interest.len()).sum();
        let ticket = receipt.filter(|_| shards > 0).and_then(|receipt| {
            self.next_ticket += 1;
            self.counted.wait(self.next_ticket, Waiter::Receipt(receipt), shards, post)
        });
        for Way { mut publication, home, feed, interest, counts } in ways {
            publication.ticket = ticket.filter(|_| counts);
            self.post(publication, home, feed, interest, post);
        }
    }

    /// Where something goes; `None`: nobody is there.
    fn way_of(&self, told: Told) -> Option<Way> {
        let Told { publication, also, counts } = told;
        let (home, here) = self.seats_of(publication.name_hash(), publication.name());
        let (feed, elsewhere) = self.seats_of(also.hash(), also.as_str());
        let (feed, interest) = (feed.filter(|_| !elsewhere.is_empty()), here.union(elsewhere));
        (!interest.is_empty()).then_some(Way { publication, home, feed, interest, counts })
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
