//! The router driven by lines and by what shards say, with a post that writes down what it is given.

mod counted;
mod living;
mod recovery;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::audience::App;
use crate::limits::Limits;
use crate::mailbox::{MissedQuery, Pid, Saved, SavedRoom, ToRouter, ToShard};
use crate::metrics::RouterMetrics;
use crate::room::name::RoomName;
use crate::room::pattern::{Policy, RoomPatterns};
use crate::room::publication::{ClientId, Draft, Publication, Target};
use crate::router::{Post, Router, RouterSettings};
use crate::time::Now;
use crate::users::{User, UserLimits, Users};

const WINDOW: Duration = Duration::from_secs(120);
const ASKER: ClientId = ClientId { shard: 1, slot: 7, generation: 3 };
const AUTHOR: Uuid = Uuid::from_u128(7);
const SOMEBODY: Uuid = Uuid::from_u128(8);
const EVERYTHING: usize = usize::MAX;

#[derive(Default)]
struct Posted(Vec<(u8, ToShard)>);

impl Post for Posted {
    fn post(&mut self, shard: u8, message: ToShard) {
        self.0.push((shard, message));
    }
}

/// A router of two shards.
struct Bench {
    router: Router,
    posted: Posted,
    now: Now,
    users: Users,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(|settings| settings.recovery = Some(WINDOW))
    }

    fn with(set: impl FnOnce(&mut RouterSettings)) -> Bench {
        let mut settings = RouterSettings::new(RoomPatterns::default(), 2, &Limits::default());
        set(&mut settings);
        let router = Router::new(settings, Arc::new(RouterMetrics::default()), Vec::new());
        Bench { router, posted: Posted::default(), now: Now::default(), users: Users::default() }
    }

    fn say(&mut self, message: ToRouter) {
        self.router.handle(message, self.now, &mut self.posted);
    }

    fn join(&mut self, shard: u8, room: &RoomName, policy: Policy) -> u64 {
        self.say(ToRouter::Join { shard, room: room.clone(), slot: 1, policy });
        match self.posted.0.pop() {
            Some((to, ToShard::Joined { sequence, .. })) if to == shard => sequence,
            other => panic!("{other:?} is no answer to a join"),
        }
    }

    fn leave(&mut self, shard: u8, room: &RoomName) {
        self.say(ToRouter::Leave { shard, room: room.clone() });
    }

    fn keep(&mut self, shard: u8, room: &RoomName) {
        self.say(ToRouter::Keep { shard, room: room.clone() });
    }

    fn unkeep(&mut self, shard: u8, room: &RoomName) {
        self.say(ToRouter::Unkeep { shard, room: room.clone() });
    }

    /// A client comes back; all that is posted.
    fn ask(&mut self, client: ClientId, pid: Pid) -> Vec<(u8, ToShard)> {
        self.say(ToRouter::Restore { client, pid: Some(pid) });
        std::mem::take(&mut self.posted.0)
    }

    /// A user's first connection on a shard.
    fn connect(&mut self, shard: u8, user: &str) -> Arc<User> {
        let limits = UserLimits { connections: 0, connects: None };
        let user = self.users.connect(user, App::Market, limits, 0).expect("there is no limit");
        self.say(ToRouter::UserUp { shard, user: Arc::clone(&user) });
        user
    }

    /// Publishes one line.
    fn line(&mut self, line: &str) {
        let (reply, result) = crossbeam_channel::bounded(1);
        self.router.publish_body(line.as_bytes().to_vec(), reply);
        self.router.publish_lines(self.now, &mut self.posted);
        let errors = result.try_recv().map(|result| result.errors);
        assert_eq!(errors, Ok(0), "{line}");
    }

    /// An event of a room.
    fn event(&mut self, room: &str, data: &str) {
        self.line(&format!(r#"{{"room":"{room}","event":"note","data":{data}}}"#));
    }

    fn client_says(&mut self, draft: &Draft<'_>, counted: Option<(ClientId, u64)>) {
        let publication = Box::new(Publication::new(draft, self.now));
        self.say(ToRouter::Publish { publication, counted });
    }

    /// What the client has missed, by its data.
    fn missed(&mut self, query: MissedQuery) -> Option<Vec<String>> {
        self.posted.0.clear();
        self.say(ToRouter::Missed(Box::new(query)));
        match self.posted.0.pop() {
            Some((shard, ToShard::Missed { client: ASKER, events, .. })) if shard == ASKER.shard => {
                let events = events?;
                assert!(events.is_sorted_by(|one, next| one.sequence < next.sequence));
                Some(events.iter().map(|event| String::from_utf8_lossy(event.data()).into_owned()).collect())
            }
            other => panic!("{other:?} is no answer to what was missed"),
        }
    }

    fn restore(&mut self, pid: Pid) -> Option<Box<Saved>> {
        self.say(ToRouter::Restore { client: ASKER, pid: Some(pid) });
        match self.posted.0.pop() {
            Some((shard, ToShard::Restored { client: ASKER, saved, .. })) if shard == ASKER.shard => saved,
            other => panic!("{other:?} is no answer to a restore"),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.router.tick(self.now, &mut self.posted);
    }

    fn sequence(&self) -> u64 {
        self.router.sequence
    }
}

/// A draft of what a client says in a room.
fn said<'a>(target: Target, name: &'a str, data: &'a str) -> Draft<'a> {
    Draft {
        target,
        name,
        name_hash: crate::room::name::hash(name),
        event: "\"said\"",
        data,
        key: None,
        app: Some(App::Market),
        policy: Policy::Every,
        ts: None,
        except: Some(AUTHOR),
    }
}

fn room(name: &str) -> RoomName {
    RoomName::named(name)
}

/// A room of policy `every` since the beginning.
fn every(room: &RoomName) -> SavedRoom {
    SavedRoom { room: room.clone(), policy: Policy::Every, since: 0 }
}

fn query(after: u64, rooms: Vec<SavedRoom>) -> MissedQuery {
    let app = App::Market;
    MissedQuery {
        client: ASKER,
        after,
        rooms,
        app,
        author: SOMEBODY,
        conflated: false,
        max_bytes: EVERYTHING,
    }
}

fn session(pid: u8, rooms: usize) -> Box<Saved> {
    let rooms = (0..rooms).map(|number| every(&room(&format!("trade:{number}")))).collect();
    Box::new(Saved {
        pid: [pid; 16],
        user: SmolStr::new("ada"),
        app: App::Market,
        connection: SOMEBODY,
        rooms,
        is_personal: true,
        since: 3,
        conflated: false,
    })
}

fn texts<const N: usize>(texts: [&str; N]) -> Option<Vec<String>> {
    Some(texts.map(str::to_owned).to_vec())
}
