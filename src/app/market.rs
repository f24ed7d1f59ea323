//! The app `market` (`spec/market.md`): rooms, event types, presence, messages between users. Wire `native` over `/feed`.

use smol_str::SmolStr;
use std::borrow::Cow;
use std::time::Duration;

use crate::app::outputs::Joining;
use crate::app::wire::Object;
use crate::app::{Asked, Context, Input, Output, Presence, ReplyTo, Session, State, string, wait_ms};
use crate::audience::{App, Wire};
use crate::close::{CloseReason, ErrorCode};
use crate::limits::{NAME_BYTES, PRESENCE_USERS};
use crate::proto::json::Raw;
use crate::room::name::RoomName;
use crate::room::pattern::{Policy, RoomPatterns, Row};
use crate::room::publication::{Draft, EventType, Publication, Target};
use crate::time;

/// The prefixes whose rooms carry market data: no client may speak in them.
const MARKET_DATA: [&str; 4] = ["price", "trade", "orderbook", "chart"];

/// A request that is refused: the code and what to do about it.
type Refused = (ErrorCode, &'static str);

impl Session {
    pub(super) fn market_input(&mut self, input: Input<'_>, context: &mut Context<'_>) {
        match input {
            Input::Opened { offset } => self.welcome(offset, context),
            Input::Event { args, is_binary, .. } => self.market_packet(args, is_binary, context),
            Input::Presence { users, .. } => write_presence(self.reply_to(context), context, users),
            Input::Delivered { count, .. } => {
                let ack = format!("{{\"delivered\":{count}}}");
                let ack = context.out.compose_ack(self.reply_to(context), ack.as_bytes());
                context.out.push(Output::Reply(ack));
            }
            // Clients of Socket.IO are told by its own packets.
            Input::Closing(reason) if self.wire == Wire::Native => {
                write_closed(self.reply_to(context), context, reason);
            }
            _ => {}
        }
    }

    pub(super) fn market_message(&mut self, message: Raw<'_>, context: &mut Context<'_>) {
        let Some(event) = string(message, "event") else {
            let example = "a message has an \"event\", for example {\"event\":\"ping\",\"data\":{}}";
            return self.malformed(context, example);
        };
        if self.allowed(context, Some(&event)) {
            self.market_event(&event, message.get("data"), context);
        }
    }

    /// A Socket.IO packet's array.
    fn market_packet(&mut self, args: Raw<'_>, is_binary: bool, context: &mut Context<'_>) {
        let mut args = args.items();
        // Socket.IO allows numbers as names; none of the events here has one.
        let event = args.next().and_then(|name| match name.is_number() {
            true => Some(Cow::Borrowed(name.text())),
            false => name.as_str(),
        });
        let Some(event) = event else {
            return self.malformed(context, "an event has a name, for example [\"ping\",{}]");
        };
        if !self.allowed(context, Some(&event)) {
            return;
        }
        if is_binary {
            return self.invalid(context, "this server takes no binary data: send JSON", Some(&event));
        }
        self.market_event(&event, args.next(), context);
    }

    fn market_event(&mut self, event: &str, data: Option<Raw<'_>>, context: &mut Context<'_>) {
        let data = data.filter(|data| data.is_object()).unwrap_or(Raw::EMPTY_OBJECT);
        let done = match event {
            "join_room" => self.join_room(data, context),
            "leave_room" => self.leave_room(data, context),
            "subscribe" => self.subscribe(data, context),
            "subscribe_price" => {
                self.subscribe_symbol(data, "subscribe_price", "price", "symbol", "price_subscribed", context)
            }
            "subscribe_trades" => {
                self.subscribe_symbol(data, "subscribe_trades", "trade", "pair", "trades_subscribed", context)
            }
            "subscribe_orderbook" => self.subscribe_symbol(
                data,
                "subscribe_orderbook",
                "orderbook",
                "symbol",
                "orderbook_subscribed",
                context,
            ),
            "subscribe_portfolio" => {
                self.subscribe_own("subscribe_portfolio", "portfolio", "portfolio_subscribed", context)
            }
            "subscribe_orders" => {
                self.subscribe_own("subscribe_orders", "orders", "orders_subscribed", context)
            }
            "unsubscribe" => self.unsubscribe(data, context),
            "room_message" => self.room_message(data, context),
            "direct_message" => self.direct_message(data, context),
            "presence" => self.presence(data, context),
            "ping" => {
                write_pong(self.reply_to(context), context, data);
                Ok(())
            }
            "authenticate" => {
                self.authenticate(string(data, "token").as_deref(), context);
                Ok(())
            }
            _ => Err((ErrorCode::InvalidMessage, "unknown event: see the list of client events")),
        };
        if let Err((code, message)) = done {
            self.refuse(context, code, message, Some(event), None);
        }
    }

    /// `connected`, then `authenticated` for those who are somebody.
    fn welcome(&self, offset: Option<u64>, context: &mut Context<'_>) {
        let now = context.now;
        context.out.reply_with_offset(self.reply_to(context), "connected", offset, |data| {
            data.put("connectionId", self.connection_id())
                .put("timestamp", time::millis(now.unix_ms()))
                .put("serverVersion", env!("CARGO_PKG_VERSION"));
        });
        if !self.user.is_anonymous() {
            self.write_authenticated(context);
        }
    }

    fn own(&self) -> Option<&str> {
        (!self.user.is_anonymous()).then(|| &**self.user.id())
    }

    /// The room a client names, if it may be in it.
    fn room<'n, 'r>(
        &self,
        name: &'n str,
        context: &'r Context<'_>,
    ) -> Result<(Cow<'n, str>, &'r Row), Refused> {
        self.permitted(name, &context.settings.patterns)
    }

    /// Whether the client may be in a room that it was in before.
    pub fn may_be_in(&self, name: &str, patterns: &RoomPatterns) -> bool {
        match self.state {
            State::Market => self.permitted(name, patterns).is_ok(),
            State::Account(_) => false,
            State::Echo(_) => true,
        }
    }

    fn permitted<'n, 'r>(
        &self,
        name: &'n str,
        patterns: &'r RoomPatterns,
    ) -> Result<(Cow<'n, str>, &'r Row), Refused> {
        let (name, row) = patterns
            .typed(name, self.own())
            .ok_or((ErrorCode::RoomNotFound, "no such room: check its name"))?;
        let granted = || self.details.as_ref().is_some_and(|details| details.may_join(&name));
        match row.owner(&name) {
            Some(owner) if Some(owner) != self.own() && !granted() => {
                Err((ErrorCode::AccessDenied, "this room is another user's"))
            }
            _ => Ok((name, row)),
        }
    }

    /// Joins one room; a user's own room is the user itself.
    fn join(
        &self,
        name: &str,
        event: &'static str,
        answer: &str,
        fill: impl FnOnce(&str, &mut Object<'_>),
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        let (name, row) = self.room(name, context)?;
        let policy = row.policy;
        let confirmation = context.out.compose(self.reply_to(context), answer, |data| fill(&name, data));
        context.out.push(match self.is_personal(&name) {
            true => Output::Personal { on: true, confirmation },
            false => Output::Join {
                rooms: vec![Joining { room: RoomName::named(&name), policy }],
                confirmation,
                asked: context.asked(event),
            },
        });
        Ok(())
    }

    /// Whether the room is `user:ID` of this very user.
    fn is_personal(&self, name: &str) -> bool {
        name.strip_prefix("user:").is_some_and(|id| Some(id) == self.own())
    }

    fn join_room(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let name = room_field(data)?;
        let fill = |name: &str, data: &mut Object<'_>| {
            data.put("room", name);
        };
        self.join(&name, "join_room", "room_joined", fill, context)
    }

    fn leave_room(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let name = room_field(data)?;
        let (name, _) = context
            .settings
            .patterns
            .typed(&name, self.own())
            .ok_or((ErrorCode::RoomNotFound, "no such room: check its name"))?;
        let confirmation = context.out.compose(self.reply_to(context), "room_left", |data| {
            data.put("room", &*name);
        });
        self.leave(&name, confirmation, context);
        Ok(())
    }

    fn leave(&self, name: &str, confirmation: crate::app::outputs::Text, context: &mut Context<'_>) {
        context.out.push(match self.is_personal(name) {
            true => Output::Personal { on: false, confirmation },
            false => Output::Leave { room: RoomName::named(name), confirmation },
        });
    }

    fn subscribe(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        const TYPES: Refused = (
            ErrorCode::InvalidMessage,
            "types is a list of price_updates, trade_notifications, portfolio_updates, order_updates, system_alerts",
        );
        let types = data.get("types").filter(|types| types.is_array()).ok_or(TYPES)?;
        let mut kinds = Vec::new();
        for name in types.items() {
            let kind = name.as_str().and_then(|name| EventType::from_name(&name)).ok_or(TYPES)?;
            if kind.is_own() && self.user.is_anonymous() {
                return Err((ErrorCode::AuthRequired, "connect with a token to get events of your own"));
            }
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let confirmation = context.out.compose(self.reply_to(context), "subscribed", |data| {
            data.raw("types", types);
        });
        let rooms = kinds
            .into_iter()
            .map(|kind| Joining { room: kind.room(self.user.id()), policy: Policy::Every })
            .collect();
        context.out.push(Output::Join { rooms, confirmation, asked: context.asked("subscribe") });
        Ok(())
    }

    fn subscribe_symbol(
        &self,
        data: Raw<'_>,
        event: &'static str,
        prefix: &str,
        field: &'static str,
        answer: &str,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        let missing = match field {
            "pair" => "data.pair is missing: name a pair, for example BTC-USDC",
            _ => "data.symbol is missing: name a symbol, for example BTC-USDC",
        };
        let symbol = string(data, field).ok_or((ErrorCode::InvalidMessage, missing))?;
        let fill = |_: &str, data: &mut Object<'_>| {
            data.put(field, &*symbol);
        };
        self.join(&format!("{prefix}:{symbol}"), event, answer, fill, context)
    }

    fn subscribe_own(
        &self,
        event: &'static str,
        prefix: &str,
        answer: &str,
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        let own = self.own().ok_or((ErrorCode::AuthRequired, "connect with a token to have a portfolio"))?;
        let fill = |_: &str, data: &mut Object<'_>| {
            data.put("userId", own);
        };
        self.join(&format!("{prefix}:{own}"), event, answer, fill, context)
    }

    fn unsubscribe(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        const KIND: Refused = (
            ErrorCode::InvalidMessage,
            "data.type is price, trades, orderbook, portfolio, orders or an event type",
        );
        let kind = string(data, "type").ok_or(KIND)?;
        let identifier = data.get("identifier");
        let confirmation = context.out.compose(self.reply_to(context), "unsubscribed", |data| {
            data.put("type", &*kind);
            if let Some(identifier) = identifier {
                data.raw("identifier", identifier);
            }
        });
        if let Some(kind) = EventType::from_name(&kind) {
            context.out.push(Output::Leave { room: kind.room(self.user.id()), confirmation });
            return Ok(());
        }
        let prefix = match &*kind {
            "price" => "price",
            "trades" => "trade",
            "orderbook" => "orderbook",
            "portfolio" => "portfolio",
            "orders" => "orders",
            _ => return Err(KIND),
        };
        let named = identifier.and_then(Raw::as_str);
        let id = match (&named, prefix) {
            (Some(id), _) => &**id,
            (None, "portfolio" | "orders") => self.own().unwrap_or_default(),
            (None, _) => {
                return Err((ErrorCode::InvalidMessage, "data.identifier is missing: name the symbol"));
            }
        };
        self.leave(&format!("{prefix}:{id}"), confirmation, context);
        Ok(())
    }

    fn room_message(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
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

    fn direct_message(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
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
            name_hash: crate::room::name::hash(name),
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

    fn presence(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
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

/// `room`, or its synonym `roomId`; a `roomType` is ignored.
fn room_field(data: Raw<'_>) -> Result<Cow<'_, str>, Refused> {
    string(data, "room")
        .or_else(|| string(data, "roomId"))
        .ok_or((ErrorCode::InvalidMessage, "data.room is missing: name a room, for example price:BTC-USDC"))
}

fn is_user_id(id: &str) -> bool {
    (1..=NAME_BYTES).contains(&id.len()) && !id.chars().any(char::is_control)
}

/// `pong {timestamp, serverTime}`: the client's timestamp as it was written, or the server's where there is none.
fn write_pong(to: ReplyTo, context: &mut Context<'_>, data: Raw<'_>) {
    let now = time::millis(context.now.unix_ms());
    context.out.reply(to, "pong", |pong| {
        match data.get("timestamp") {
            Some(timestamp) => pong.raw("timestamp", timestamp),
            None => pong.put("timestamp", &now),
        };
        pong.put("serverTime", &now);
    });
}

fn write_presence(to: ReplyTo, context: &mut Context<'_>, users: &[Presence]) {
    context.out.reply(to, "presence", |data| {
        data.list("users", users, |presence, user| {
            user.put("userId", &*presence.user).put("online", presence.online);
            if let Some(last_seen) = presence.last_seen {
                user.put("lastSeen", time::millis(last_seen));
            }
        });
    });
}

/// `connection:closed {reason, code, timestamp}` before a close that the server starts.
fn write_closed(to: ReplyTo, context: &mut Context<'_>, reason: &CloseReason) {
    let now = context.now;
    context.out.reply(to, "connection:closed", |data| {
        data.put("reason", reason.label())
            .put("code", reason.code())
            .put("timestamp", time::millis(now.unix_ms()));
    });
}

/// `error {code, message, event?, retry_after_ms?}`
pub(super) fn write_error(
    to: ReplyTo,
    context: &mut Context<'_>,
    code: ErrorCode,
    message: &str,
    event: Option<&str>,
    wait: Option<Duration>,
) {
    context.out.reply_error(to, "error", |error| {
        error.put("code", code.as_str()).put("message", message);
        if let Some(event) = event {
            error.put("event", event);
        }
        if let Some(wait) = wait {
            error.put("retry_after_ms", wait_ms(wait));
        }
    });
}
