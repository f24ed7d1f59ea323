//! Clients of support sessions: the router counts them, and ends them when their session is closed.

use smol_str::SmolStr;
use uuid::Uuid;

use crate::app::{Input, Live};
use crate::close::CloseReason;
use crate::mailbox::ToRouter;
use crate::mailbox::support::{SupportNews, SupportWord};
use crate::room::name;
use crate::shard::{Net, Shard};
use crate::time::Now;

impl<N: Net> Shard<N> {
    /// Tells the router what it is to count.
    pub(super) fn live(&mut self, slot: u32, live: Live) {
        let Some(session) = self.clients.get(slot).map(|client| &client.session) else { return };
        let (client, user) = (session.client(), session.user().id().clone());
        let news = match live {
            Live::Came => match session.support_session() {
                Some(session) => SupportNews::Came { client, session, user },
                None => return,
            },
            Live::Types { session, is_typing } => SupportNews::Types { session, user, is_typing },
        };
        self.outgoing.push(ToRouter::Support(news));
    }

    /// A client is gone: it has its place no more, and counts no more.
    pub(super) fn leave_support(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        if let Some(session) = client.session.leave_support() {
            let user = client.session.user().id().clone();
            self.outgoing.push(ToRouter::Support(SupportNews::Went { session, user }));
        }
    }

    /// Takes what the router says.
    pub(super) fn support_word(&mut self, word: SupportWord, now: Now) {
        match word {
            SupportWord::Here { client, users } => self.session_input(client, Input::Here { users }, now),
            SupportWord::Closed { session, users } => {
                for user in &*users {
                    self.close_session(session, user, now);
                }
            }
            SupportWord::Census { conn, serial, census } => self.api_census(conn, serial, &census, now),
        }
    }

    /// Ends a user's connections to a session. Those that have not been counted yet are among them.
    fn close_session(&mut self, session: Uuid, user: &SmolStr, now: Now) {
        let mut slots = Vec::new();
        let mut at = self.local_users.first(name::hash(user), user);
        while let Some(client) = self.clients.get(at) {
            slots.extend((client.session.support_session() == Some(session)).then_some(at));
            at = client.next_of_user;
        }
        for slot in slots {
            self.close(slot, CloseReason::SessionClosed, now);
        }
    }
}
