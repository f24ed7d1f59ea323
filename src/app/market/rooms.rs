//! Rooms and event types of `market`: joining, subscribing, and out again.

use std::borrow::Cow;

use crate::app::market::Refused;
use crate::app::outputs::{Joining, Text};
use crate::app::wire::Object;
use crate::app::{Context, Output, Session, State, string};
use crate::close::ErrorCode;
use crate::proto::json::Raw;
use crate::room::name::RoomName;
use crate::room::pattern::{Policy, RoomPatterns, Row};
use crate::room::publication::EventType;

impl Session {
    pub(super) fn own(&self) -> Option<&str> {
        (!self.user.is_anonymous()).then(|| &**self.user.id())
    }

    /// The room a client names, if it may be in it.
    pub(super) fn room<'n, 'r>(
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
            State::Account(_) | State::Conversation(_) | State::Mobile(_) | State::Support(_) => false,
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

    pub(super) fn join_room(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
        let name = room_field(data)?;
        let fill = |name: &str, data: &mut Object<'_>| {
            data.put("room", name);
        };
        self.join(&name, "join_room", "room_joined", fill, context)
    }

    pub(super) fn leave_room(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
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

    fn leave(&self, name: &str, confirmation: Text, context: &mut Context<'_>) {
        context.out.push(match self.is_personal(name) {
            true => Output::Personal { on: false, confirmation },
            false => Output::Leave { room: RoomName::named(name), confirmation },
        });
    }

    pub(super) fn subscribe(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
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

    pub(super) fn subscribe_symbol(
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

    pub(super) fn subscribe_own(
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

    pub(super) fn unsubscribe(&self, data: Raw<'_>, context: &mut Context<'_>) -> Result<(), Refused> {
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
}

/// `room`, or its synonym `roomId`; a `roomType` is ignored.
pub(super) fn room_field(data: Raw<'_>) -> Result<Cow<'_, str>, Refused> {
    string(data, "room")
        .or_else(|| string(data, "roomId"))
        .ok_or((ErrorCode::InvalidMessage, "data.room is missing: name a room, for example price:BTC-USDC"))
}
