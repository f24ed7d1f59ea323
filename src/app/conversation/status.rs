//! What a user says of himself: `user:status`.

use smol_str::SmolStr;

use crate::app::conversation::tell::News;
use crate::app::conversation::{Purpose, Refused, shapes};
use crate::app::{Context, Output, Session, StoreRequest, string};
use crate::proto::json::Raw;
use crate::record::Query;

/// A user's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Online,
    Away,
    Busy,
    Offline,
}

impl Status {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Status; 4] = [Status::Online, Status::Away, Status::Busy, Status::Offline];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Status::Online => "online",
            Status::Away => "away",
            Status::Busy => "busy",
            Status::Offline => "offline",
        }
    }
}

impl Session {
    pub(super) fn user_status(&mut self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let name = string(data, "status");
        let status = Status::ALL.into_iter().find(|status| name.as_deref() == Some(status.name()));
        let status =
            status.ok_or_else(|| Refused::field("status", "status is online, away, busy or offline"))?;
        let query = Query::Contacts { user: self.user.id().clone(), limit: Query::MOST_CONTACTS };
        self.ask(Purpose::Status(status), StoreRequest::Query(query), context).map(drop)
    }

    /// `user:status_updated {user_id, status, timestamp}` to the user and the contacts.
    pub(super) fn publish_status(&self, status: Status, contacts: &[SmolStr], context: &mut Context<'_>) {
        let now = context.now;
        let news = News::new("\"user:status_updated\"", now, |object| {
            object.put("user_id", self.user.id().as_str()).put("status", status.name());
            shapes::put_time(object, "timestamp", now.unix_ms());
        });
        let users = std::iter::once(self.user.id()).chain(contacts).cloned().collect();
        let (publication, asked) = (news.to_user(self.user.id()), context.asked("user:status"));
        context.out.push(Output::Tell { publication, users, asked });
    }
}
