//! From a line, or a client's message, to the shards: offset, newest value, interest, acknowledgement.

use std::borrow::Cow;
use std::sync::Arc;

use crate::app::wire::Object;
use crate::audience::App;
use crate::close::ErrorCode;
use crate::mailbox::{NO_SLOT, ToShard};
use crate::metrics::IngestResult;
use crate::proto::ingest::{Publish, Target as LineTarget, reply};
use crate::proto::json::Raw;
use crate::room::interest::Interest;
use crate::room::name::{self, RoomName};
use crate::room::pattern::{Access, Policy};
use crate::room::publication::{Draft, EventType, Publication, Target};
use crate::router::counted::Waiter;
use crate::router::ids::Seen;
use crate::router::replies::{Addressee, Counted, Replies, ticket};
use crate::router::rooms::RoomEntry;
use crate::router::{Post, Router};
use crate::time::{self, Now};

/// A line that is not published.
type Refused = (ErrorCode, Cow<'static, str>);

/// Where an event goes.
struct Route<'a> {
    target: Target,
    name: &'a str,
    name_hash: u64,
    policy: Policy,
    /// The room whose offsets count it.
    counts: u32,
    /// The room it is an event of, that of everyone included; none for what only the subscribers of its type get.
    home: Option<u32>,
    /// A second room, if anybody is in it or its events are kept.
    also: Option<u32>,
    /// The shards it is posted to.
    interest: Interest,
}

impl Router {
    /// Publishes a line and answers it if it has an id: in its place, if it has waited for one, else behind all others.
    pub(super) fn publish_line(
        &mut self,
        (key, place): (usize, Option<u64>),
        replies: &mut Replies,
        line: &Publish<'_>,
        now: Now,
        post: &mut impl Post,
    ) -> Result<IngestResult, Refused> {
        let (kind, target_name) = match &line.target {
            LineTarget::Room(name) => ("room", &**name),
            LineTarget::User(name) => ("user", &**name),
            LineTarget::Broadcast => ("broadcast", ""),
        };
        let mut new_id = None;
        if let Some(id) = &line.id {
            match self.ids.look_up(kind, target_name, id, now.mono) {
                Seen::New(known_as) => new_id = Some((known_as, id)),
                Seen::Before(offset) => {
                    let write = |out: &mut Vec<u8>| reply::write_ack(out, id, &line.target, offset, 0, true);
                    match place {
                        Some(place) => drop(replies.settle(place, write)),
                        None => replies.write(write),
                    }
                    return Ok(IngestResult::Duplicate);
                }
            }
        }
        let route = self.route(line)?;
        let room = self.rooms.get_mut(route.counts);
        let offset = room.map_or(0, |room| {
            room.offset += 1;
            room.offset
        });
        if let Some((known_as, _)) = new_id {
            self.ids.note(known_as, offset, now.mono);
        }
        let shards = route.interest.len();
        let ticket = new_id.map(|(_, id)| {
            let addressee = match &line.target {
                LineTarget::Room(name) => Addressee::Room((&**name).into()),
                LineTarget::User(name) => Addressee::User((&**name).into()),
                LineTarget::Broadcast => Addressee::Everyone,
            };
            let ack = Counted::Ack { id: (&**id).into(), addressee, offset };
            if let Some(place) = place {
                replies.wait_on(place, shards, ack);
                return place;
            }
            self.next_ticket += 1;
            let ticket = ticket(key, self.next_ticket);
            replies.wait(ticket, shards, ack);
            ticket
        });
        if let Some(place) = place.filter(|_| ticket.is_none()) {
            replies.settle(place, |_| {});
        }
        if shards == 0 && route.policy == Policy::Every && !self.is_kept(route.home, route.also) {
            self.pass_over(route.home);
            return Ok(IngestResult::NoSubscribers);
        }
        let draft = Draft {
            target: route.target,
            name: route.name,
            name_hash: route.name_hash,
            event: line.event.text(),
            data: line.data.text(),
            key: line.key.as_deref(),
            app: line.app,
            policy: route.policy,
            ts: line.ts,
            except: None,
        };
        let mut publication = Publication::new(&draft, now);
        publication.ticket = ticket;
        self.post(publication, route.home, route.also, route.interest, post);
        Ok(match shards {
            0 => IngestResult::NoSubscribers,
            _ => IngestResult::Accepted,
        })
    }

    /// Where a line goes, if anywhere.
    fn route<'a>(&mut self, line: &'a Publish<'_>) -> Result<Route<'a>, Refused> {
        match &line.target {
            LineTarget::Room(name) => self.route_to_room(name, line),
            LineTarget::User(name) => {
                let mut route = self.route_to_user(name);
                route.name = name;
                Ok(route)
            }
            LineTarget::Broadcast => Ok(self.route_to_all(&line.event_name, line.data)),
        }
    }

    fn route_to_room<'a>(&mut self, name: &'a str, line: &Publish<'_>) -> Result<Route<'a>, Refused> {
        let row = self.settings.patterns.row(name).ok_or_else(|| {
            let message =
                "no such room prefix: use one of those in the documentation, or add it as [[rooms]]";
            (ErrorCode::RoomNotFound, message.into())
        })?;
        let (policy, is_public) = (row.policy, row.access != Access::Owner);
        let owner = row.owner(name);
        let kind = EventType::of_event(&line.event_name).filter(|kind| match kind {
            EventType::PriceUpdates | EventType::TradeNotifications => is_public,
            EventType::PortfolioUpdates | EventType::OrderUpdates => !is_public,
            EventType::SystemAlerts => false,
        });
        let also = kind.and_then(|kind| match owner {
            Some(owner) => self.in_use(&kind.room(owner)),
            None => self.in_use(&self.types[kind as usize]),
        });
        let name_hash = name::hash(name);
        let room = self.rooms.touch(name_hash, name);
        if policy == Policy::Latest {
            self.check_keys(room, line)?;
        }
        let interest =
            self.interest(room).union(also.map_or(Interest::default(), |also| self.interest(also)));
        Ok(Route {
            target: Target::Room,
            name,
            name_hash,
            policy,
            counts: room,
            home: Some(room),
            also,
            interest,
        })
    }

    /// The shards with members of a room.
    pub(super) fn interest(&self, room: u32) -> Interest {
        self.rooms.get(room).map_or(Interest::default(), |room| room.seats.shards())
    }

    /// A new key of a `latest` room needs room for it.
    fn check_keys(&self, room: u32, line: &Publish<'_>) -> Result<(), Refused> {
        let limit = self.settings.keys_per_room;
        let key = line.key.as_deref().unwrap_or(line.event.text());
        let has_room = self.rooms.get(room).is_none_or(|room| room.latest.has_room(key, limit));
        has_room.then_some(()).ok_or_else(|| {
            let message =
                format!("the room has {limit} keys already: use fewer, or raise limits.keys_per_room");
            (ErrorCode::RateLimited, message.into())
        })
    }

    /// A user's connections, and those who have joined the room `user:ID`.
    fn route_to_user<'a>(&mut self, user: &str) -> Route<'a> {
        self.scratch.clear();
        self.scratch.push_str("user:");
        self.scratch.push_str(user);
        let room = self.rooms.touch(name::hash(&self.scratch), &self.scratch);
        let watchers = self.interest(room);
        Route {
            target: Target::User,
            name: "",
            name_hash: name::hash(user),
            policy: Policy::Every,
            counts: room,
            home: Some(room),
            also: (!watchers.is_empty()).then_some(room),
            interest: self.presences.shards(user).union(watchers),
        }
    }

    /// Everyone; but an alert that is not critical is for those who subscribed to alerts (`spec/market.md`).
    fn route_to_all<'a>(&mut self, event: &str, data: Raw<'_>) -> Route<'a> {
        let everyone = Interest::all(self.settings.shards);
        let room = self.rooms.touch(self.everyone.hash(), self.everyone.as_str());
        let is_critical = || data.get("level").and_then(Raw::as_str).is_some_and(|level| level == "critical");
        if EventType::of_event(event) != Some(EventType::SystemAlerts) || is_critical() {
            return Route {
                target: Target::Broadcast,
                name: "",
                name_hash: 0,
                policy: Policy::Every,
                counts: room,
                home: Some(room),
                also: None,
                interest: everyone,
            };
        }
        let also = self.in_use(&self.types[EventType::SystemAlerts as usize]);
        let interest = also.map_or(Interest::default(), |also| self.interest(also));
        Route {
            target: Target::Room,
            name: "",
            name_hash: 0,
            policy: Policy::Every,
            counts: room,
            home: None,
            also,
            interest,
        }
    }

    /// The key of a room, if anybody is in it or its events are kept.
    pub(super) fn in_use(&self, room: &RoomName) -> Option<u32> {
        let key = self.rooms.find(room.hash(), room.as_str())?;
        self.rooms.get(key).is_some_and(RoomEntry::is_needed).then_some(key)
    }

    /// Whether the events of either room are kept.
    fn is_kept(&self, home: Option<u32>, also: Option<u32>) -> bool {
        let rooms = home.into_iter().chain(also);
        rooms.filter_map(|key| self.rooms.get(key)).any(|room| room.kept.is_some())
    }

    /// An event that nobody gets has its place in the order too.
    fn pass_over(&mut self, home: Option<u32>) {
        self.sequence += 1;
        if let Some(room) = home.and_then(|home| self.rooms.get_mut(home)) {
            room.last = self.sequence;
        }
    }

    /// Stamps a publication, posts it, and keeps it where it is to be kept.
    pub(super) fn post(
        &mut self,
        mut publication: Publication,
        home: Option<u32>,
        also: Option<u32>,
        interest: Interest,
        post: &mut impl Post,
    ) {
        self.sequence += 1;
        publication.sequence = self.sequence;
        publication.set_unwritten(interest.len());
        let room_of = |key: Option<u32>| key.and_then(|key| self.rooms.get(key));
        let (home_room, also_room) = (room_of(home), room_of(also));
        publication.also = also_room.map_or(0, |also| also.name.hash());
        let publication = Arc::new(publication);
        for shard in interest.shards() {
            let slot_of =
                |room: Option<&RoomEntry>| room.and_then(|room| room.seats.slot(shard)).unwrap_or(NO_SLOT);
            post.post(
                shard,
                ToShard::Event {
                    publication: Arc::clone(&publication),
                    room: slot_of(home_room),
                    also: slot_of(also_room),
                },
            );
        }
        self.remember(&publication, home, also);
    }

    /// What a client publishes, or the store: to a user, or to a room it may speak in.
    pub(super) fn publish_from_client(
        &mut self,
        mut publication: Publication,
        counted: Option<Waiter>,
        post: &mut impl Post,
    ) {
        let (room, also, interest) = match publication.target {
            Target::User => {
                let route = self.route_to_user(publication.name());
                (route.counts, route.also, route.interest)
            }
            Target::Room | Target::Broadcast => {
                let room = self.rooms.touch(publication.name_hash(), publication.name());
                (room, None, self.interest(room))
            }
        };
        if let Some(room) = self.rooms.get_mut(room) {
            room.offset += 1;
        }
        if let Some(counted) = counted {
            self.next_ticket += 1;
            publication.ticket = self.counted.wait(self.next_ticket, counted, interest.len(), post);
        }
        let is_for_nobody = interest.is_empty() && publication.policy == Policy::Every;
        match is_for_nobody && !self.is_kept(Some(room), None) {
            true => self.pass_over(Some(room)),
            false => self.post(publication, Some(room), also, interest, post),
        }
    }

    /// Tells those who watch a user that it has come or gone.
    pub(super) fn publish_presence(&mut self, user: &str, online: bool, now: Now, post: &mut impl Post) {
        let room = RoomName::presence(user);
        let Some(key) = self.in_use(&room) else { return };
        let mut data = Vec::new();
        Object::write(&mut data, |data| {
            data.put("userId", user).put("online", online).put("timestamp", time::millis(now.unix_ms()));
        });
        let draft = Draft {
            target: Target::Room,
            name: room.as_str(),
            name_hash: room.hash(),
            event: "\"presence_update\"",
            data: std::str::from_utf8(&data).unwrap_or("null"),
            key: None,
            app: Some(App::Market),
            policy: Policy::Every,
            ts: None,
            except: None,
        };
        self.post(Publication::new(&draft, now), Some(key), None, self.interest(key), post);
    }
}
