//! Between the store and the router.

use crossbeam_channel::{Receiver, Sender};

use crate::limits::TURN_EVENTS;
use crate::login::Login;
use crate::mailbox::{Asker, FromStore, ToStore};
use crate::record::{Answer, Effect, Refusal};
use crate::router::{Post, Router};
use crate::run::Alarm;
use crate::store::{Effects, NotTaken, Store};
use crate::time::Now;

/// The store's end of the lane to the router. The lane is bounded, and the store waits while it is full: what it says is
/// never lost, and the router waits for nobody.
#[derive(Clone)]
pub struct StoreLane {
    /// To the router.
    pub lane: Sender<FromStore>,
    /// Wakes it.
    pub alarm: Alarm,
    /// Who signs users in, where that is on.
    pub login: Option<Login>,
}

impl StoreLane {
    fn say(&self, what: FromStore) {
        if self.lane.is_full() {
            self.alarm.ring();
        }
        // A router that has ended is told nothing.
        let _ = self.lane.send(what);
    }
}

impl Effects for StoreLane {
    fn publish(&mut self, effect: Effect) {
        self.say(FromStore::Effect(effect));
    }

    fn answer(&mut self, asker: Asker, answer: Result<Answer, Refusal>) {
        match asker {
            Asker::Login { worker, ticket } => {
                if let Some(login) = &self.login {
                    login.answered(worker, ticket, answer);
                }
            }
            asker => self.say(FromStore::Answer { asker, answer: Box::new(answer) }),
        }
    }

    fn flush(&mut self) {
        self.alarm.ring();
    }
}

/// The router's end.
pub struct StoreEnd {
    /// The store.
    pub store: Store,
    /// What it says.
    pub lane: Receiver<FromStore>,
}

impl StoreEnd {
    /// How much the router may take now, at most a turn's worth. To be asked before the router takes what the shards say:
    /// whoever had come, or joined, before something was said is then known to it.
    pub fn waiting(&self) -> usize {
        self.lane.len().min(TURN_EVENTS)
    }

    /// Lets the router take so much of what the store says. Returns whether something is left.
    pub fn take(&self, most: usize, router: &mut Router, now: Now, post: &mut impl Post) -> bool {
        for said in self.lane.try_iter().take(most) {
            router.from_store(said, now, post);
        }
        !self.lane.is_empty()
    }

    /// Asks the store what the router wants, as far as it has room.
    pub fn ask(&self, router: &mut Router) {
        let wishes = router.to_store();
        while let Some(wish) = wishes.front() {
            let taken = match wish {
                ToStore::Write(request) => self.store.write(request.clone()),
                ToStore::Read(request) => self.store.read(request.clone()),
            };
            match taken {
                Ok(()) => drop(wishes.pop_front()),
                Err(NotTaken::Full) => return,
                Err(NotTaken::Stopped) => return wishes.clear(),
            }
        }
    }
}
