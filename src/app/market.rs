//! The app `market` (`spec/market.md`): rooms, event types, presence, messages between users. Wire `native` over `/feed`,
//! or Socket.IO.

mod messages;
mod rooms;

use std::time::Duration;

use crate::app::{Context, Input, Output, ReplyTo, Session, packet_event, string, wait_ms};
use crate::audience::Wire;
use crate::close::{CloseReason, ErrorCode};
use crate::proto::json::Raw;
use crate::time;

/// A request that is refused: the code and what to do about it.
type Refused = (ErrorCode, &'static str);

impl Session {
    pub(super) fn market_input(&mut self, input: Input<'_>, context: &mut Context<'_>) {
        match input {
            Input::Opened { offset } => self.welcome(offset, context),
            Input::Event { args, is_binary, .. } => self.market_packet(args, is_binary, context),
            Input::Presence { users, .. } => messages::write_presence(self.reply_to(context), context, users),
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
        let Some((event, data)) = packet_event(args) else {
            return self.malformed(context, "an event has a name, for example [\"ping\",{}]");
        };
        if !self.allowed(context, Some(&event)) {
            return;
        }
        if is_binary {
            return self.invalid(context, "this server takes no binary data: send JSON", Some(&event));
        }
        self.market_event(&event, data, context);
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
