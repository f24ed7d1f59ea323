//! What users of `market` say to each other, and who of them is there.

use std::borrow::Cow;

use smol_str::SmolStr;

use crate::app::market::Refused;
use crate::app::market::rooms::room_field;
use crate::app::outputs::Joining;
use crate::app::wire::Object;
use crate::app::{Asked, Context, Output, Presence, ReplyTo, Session, string};
use crate::audience::App;
use crate::close::ErrorCode;
use crate::limits::{NAME_BYTES, PRESENCE_USERS};
use crate::proto::json::Raw;
use crate::room::name::{self, RoomName};
use crate::room::pattern::Policy;
use crate::room::publication::{Draft, Publication, Target};
use crate::time;

/// The prefixes whose rooms carry market data: no client may speak in them.
const MARKET_DATA: [&str; 4] = ["price", "trade", "orderbook", "chart"];

impl Session {
    pub(super) fn room_message(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let name = room_field(data)?;
        let own = self.own().ok_or((ErrorCode::AuthRequired, "connect with a token to send messages"))?;
        let message = data
            .get("message")
            .ok_or((ErrorCode::InvalidMessage, "data.message is missing: send something"))?;
        let (name, row) = self.room(&name, context)?;
        let granted = || self.details.as_ref().is_some_and(|details| details.may_join(&name));
        let speaks = row.prefix() == "user" || (!MARKET_DATA.contains(&row.prefix()) && granted());
        if !speaks {
            return Err((ErrorCode::AccessDenied, "clients cannot send messages to this room"));
        }
        let (is_user, policy) = (row.prefix() == "user", row.policy);
        let now = context.now;
        let mut object = Vec::new();
        Object::write(&mut object, |data| {
            data.put("room", &*name)
                .put("from", own)
                .raw("message", message)
                .put("timestamp", time::millis(now.unix_ms()));
        });
        let publication = self.draft(
            match is_user {
                true => Target::User,
                false => Target::Room,
            },
            match is_user {
                true => &name["user:".len()..],
                false => &name,
            },
            policy,
            "\"room_message\"",
            &object,
            now,
        );
        let confirmation = context.out.compose_ack(self.reply_to(context), &object);
        let asked = context.asked("room_message");
        context.out.push(Output::Publish { publication, asked, confirmation, counted: false });
        Ok(())
    }

    pub(super) fn direct_message(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let own = self.own().ok_or((ErrorCode::AuthRequired, "connect with a token to send messages"))?;
        let to = string(data, "to")
            .filter(|to| is_user_id(to))
            .ok_or((ErrorCode::InvalidMessage, "data.to is missing: name a user"))?;
        let message = data
            .get("message")
            .ok_or((ErrorCode::InvalidMessage, "data.message is missing: send something"))?;
        let now = context.now;
        let mut object = Vec::new();
        Object::write(&mut object, |data| {
            data.put("from", own).raw("message", message).put("timestamp", time::millis(now.unix_ms()));
        });
        let publication = self.draft(Target::User, &to, Policy::Every, "\"direct_message\"", &object, now);
        // The acknowledgement waits for the count.
        let (asked, counted) = (context.asked("direct_message"), context.ack.is_some());
        context.out.push(Output::Publish { publication, asked, confirmation: 0..0, counted });
        Ok(())
    }

    /// What a client publishes reaches clients of this app, but not itself.
    fn draft(
        &self,
        target: Target,
        name: &str,
        policy: Policy,
        event: &str,
        data: &[u8],
        received: time::Now,
    ) -> Publication {
        let draft = Draft {
            target,
            name,
            name_hash: name::hash(name),
            event,
            data: std::str::from_utf8(data).unwrap_or("null"),
            key: None,
            app: Some(App::Market),
            policy,
            ts: None,
            except: Some(self.connection),
        };
        Publication::new(&draft, received)
    }

    pub(super) fn presence(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        const USERS: Refused = (ErrorCode::InvalidMessage, "data.userIds is a list of at most 100 user ids");
        let ids = data.get("userIds").filter(|ids| ids.is_array()).ok_or(USERS)?;
        let mut users: Vec<SmolStr> = Vec::new();
        for id in ids.items() {
            let id = id
                .as_str()
                .or_else(|| id.as_u64().map(|id| Cow::Owned(id.to_string())))
                .filter(|id| is_user_id(id))
                .ok_or(USERS)?;
            if !users.iter().any(|known| *known == *id) {
                users.push(id.as_ref().into());
            }
            if users.len() > PRESENCE_USERS {
                return Err(USERS);
            }
        }
        let rooms = users
            .iter()
            .map(|user| Joining { room: RoomName::presence(user), policy: Policy::Every })
            .collect();
        // The answer comes even if there are too many rooms for the updates, so the acknowledgement is for the answer alone.
        let asked = Asked { event: "presence", ack: None };
        context.out.push(Output::Join { rooms, confirmation: 0..0, asked });
        context.out.push(Output::Presence { users, ack: context.ack });
        Ok(())
    }
}

fn is_user_id(id: &str) -> bool {
    (1..=NAME_BYTES).contains(&id.len()) && !id.chars().any(char::is_control)
}

/// `presence {users:[{userId, online, lastSeen?}]}`
pub(super) fn write_presence(to: ReplyTo, context: &mut Context<'_>, users: &[Presence]) {
    context.out.reply(to, "presence", |data| {
        data.list("users", users, |presence, user| {
            user.put("userId", &*presence.user).put("online", presence.online);
            if let Some(last_seen) = presence.last_seen {
                user.put("lastSeen", time::millis(last_seen));
            }
        });
    });
}
