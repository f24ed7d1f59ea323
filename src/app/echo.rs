//! The application that conformance suites of Socket.IO expect on the other side, and two events on top that let them try
//! rooms: what is sent comes back. Served by `examples/conformance.rs`, never by the broker's configuration.
//!
//! | client's event | answer |
//! |---|---|
//! | (on connect) | event `auth` with the payload of CONNECT, `{}` where there was none |
//! | `message` ARGS… | event `message-back` with the same arguments and attachments |
//! | `message-with-ack` ARGS… | acknowledgement with the same arguments and attachments |
//! | `room-join` ROOM | joins the room, then an acknowledgement without arguments |
//! | `room-say` ROOM EVENT ARGS… | EVENT with ARGS to the room, the sender included; an acknowledgement without arguments |
//!
//! Arguments come back byte for byte. Anything else is passed over in silence, and no rate counts here.

use std::borrow::Cow;
use std::time::Duration;

use crate::app::outputs::Joining;
use crate::app::wire::socketio::{self, Kind};
use crate::app::{Context, Input, Output, Session, wait_ms};
use crate::close::ErrorCode;
use crate::limits::NAME_BYTES;
use crate::proto::json::{Items, Raw};
use crate::proto::ws;
use crate::room::name::{self, RoomName};
use crate::room::pattern::Policy;
use crate::room::publication::{Draft, Publication, Target};

impl Session {
    pub(super) fn echo_input(&self, auth: &str, input: Input<'_>, context: &mut Context<'_>) {
        match input {
            Input::Opened { offset } => {
                let auth = if auth.is_empty() { "{}" } else { auth };
                let text = context
                    .out
                    .write(|out| socketio::write_message(out, self.wire, "auth", auth.as_bytes(), offset));
                context.out.push(Output::Reply(text));
            }
            Input::Event { args, is_binary, attachments, .. } => {
                self.echo_event(args, is_binary.then_some(attachments), context);
            }
            _ => {}
        }
    }

    fn echo_event(&self, args: Raw<'_>, attachments: Option<&[Box<[u8]>]>, context: &mut Context<'_>) {
        let mut args = Arguments::of(args);
        let Some(event) = args.next_text() else { return };
        match (&*event, context.ack) {
            ("message", _) if args.rest.is_empty() => {
                self.echo(Kind::Event, attachments, &[b"\"message-back\""], context);
            }
            ("message", _) => {
                let parts: [&[u8]; 2] = [b"\"message-back\",", args.rest.as_bytes()];
                self.echo(Kind::Event, attachments, &parts, context);
            }
            ("message-with-ack", Some(id)) => {
                self.echo(Kind::Ack(id), attachments, &[args.rest.as_bytes()], context);
            }
            ("room-join", _) => self.room_join(args, context),
            // A publication has no attachments.
            ("room-say", _) if attachments.is_none() => self.room_say(args, context),
            _ => {}
        }
    }

    fn echo(
        &self,
        kind: Kind,
        attachments: Option<&[Box<[u8]>]>,
        parts: &[&[u8]],
        context: &mut Context<'_>,
    ) {
        let text = context.out.write(|out| {
            socketio::write_packet(out, self.wire, kind, attachments.map(<[_]>::len), parts);
            for attachment in attachments.unwrap_or_default() {
                ws::write_binary(out, &[attachment]);
            }
        });
        context.out.push(Output::Reply(text));
    }

    fn room_join(&self, mut args: Arguments<'_>, context: &mut Context<'_>) {
        let Some(room) = args.next_room() else { return };
        let confirmation = context.out.compose_ack(self.reply_to(context), b"");
        context.out.push(Output::Join {
            rooms: vec![Joining { room: RoomName::named(&room), policy: Policy::Every }],
            confirmation,
            asked: context.asked("room-join"),
        });
    }

    fn room_say(&self, mut args: Arguments<'_>, context: &mut Context<'_>) {
        let (Some(room), Some(event)) = (args.next_room(), args.next()) else {
            return;
        };
        let draft = Draft {
            target: Target::Room,
            name: &room,
            name_hash: name::hash(&room),
            event: event.text(),
            data: args.rest,
            key: None,
            app: Some(self.app()),
            policy: Policy::Every,
            ts: None,
            except: None,
        };
        let confirmation = context.out.compose_ack(self.reply_to(context), b"");
        context.out.push(Output::Publish {
            publication: Publication::new(&draft, context.now),
            asked: context.asked("room-say"),
            confirmation,
            counted: false,
        });
    }

    /// An acknowledgement is the only place for an error.
    pub(super) fn echo_error(
        &self,
        code: ErrorCode,
        message: &str,
        wait: Option<Duration>,
        context: &mut Context<'_>,
    ) {
        let ack = context.out.compose_ack_error(self.reply_to(context), |error| {
            error.put("code", code.as_str()).put("message", message);
            if let Some(wait) = wait {
                error.put("retry_after_ms", wait_ms(wait));
            }
        });
        context.out.push(Output::Reply(ack));
    }
}

/// What is left of a packet's array.
struct Arguments<'a> {
    items: Items<'a>,
    /// The same as it was written, without the brackets.
    rest: &'a str,
}

impl<'a> Arguments<'a> {
    fn of(array: Raw<'a>) -> Arguments<'a> {
        let inside = array.text().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        Arguments { items: array.items(), rest: inside.unwrap_or_default().trim() }
    }

    /// The next text as it was written, quotes included.
    fn next(&mut self) -> Option<Raw<'a>> {
        let item = self.items.next()?;
        let rest = self.rest.strip_prefix(item.text())?.trim_start();
        self.rest = rest.strip_prefix(',').unwrap_or_default().trim_start();
        Some(item).filter(|item| item.is_string())
    }

    fn next_text(&mut self) -> Option<Cow<'a, str>> {
        self.next().and_then(Raw::as_str)
    }

    fn next_room(&mut self) -> Option<Cow<'a, str>> {
        self.next_text()
            .filter(|name| (1..=NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control))
    }
}
