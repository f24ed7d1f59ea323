//! A session on the bench: what the transcripts of all apps have in common. The store, the router and the shard are played
//! by hand.

use std::sync::Arc;

use uuid::Uuid;

use crate::app::outputs::Text;
use crate::app::{AppOpening, AppSettings, Context, Input, Opening, Output, Outputs, Session};
use crate::audience::App;
use crate::auth::{Identity, Verifier};
use crate::proto::json::Parser;
use crate::proto::ws;
use crate::room::publication::ClientId;
use crate::settings::{AuthSettings, Secret};
use crate::time::Now;
use crate::users::{User, UserLimits, Users};

/// A session, and what it is handed with each input.
pub struct Stand {
    pub settings: AppSettings,
    pub verifier: Verifier,
    pub parser: Parser,
    pub out: Outputs,
    pub session: Session,
    /// The time, which stands still until a test moves it.
    pub now: Now,
}

impl Stand {
    pub fn new(user: Arc<User>, identity: Option<Identity>, app: AppOpening, now: Now) -> Stand {
        let auth =
            AuthSettings { secret: Secret::new("0123456789abcdef0123456789abcdef"), ..Default::default() };
        Stand {
            settings: AppSettings::default(),
            verifier: Verifier::new(&auth).expect("a secret of 32 bytes"),
            parser: Parser::new(64),
            out: Outputs::default(),
            session: Session::new(Opening {
                user,
                identity,
                connection: Uuid::from_bytes([7; 16]),
                client: ClientId { shard: 0, slot: 0, generation: 0 },
                app,
            }),
            now,
        }
    }

    /// The effects of an input: what `say` makes of each, and the frames of the text that it returns.
    pub fn drive(
        &mut self,
        input: Input<'_>,
        mut say: impl FnMut(Output, &mut Vec<String>) -> Text,
    ) -> Vec<String> {
        let mut context = Context {
            now: self.now,
            settings: &self.settings,
            verifier: &self.verifier,
            parser: &mut self.parser,
            out: &mut self.out,
            ack: None,
        };
        self.session.handle(input, &mut context);
        self.out.take_counts(|_| (), |_| ());
        let mut list = self.out.take();
        let mut words = Vec::new();
        for output in list.drain(..) {
            let text = say(output, &mut words);
            words.extend(frames(self.out.text(&text)));
        }
        self.out.give_back(list);
        words
    }
}

/// A user with one connection, and no limits on them.
pub fn connected(user: &str, app: App) -> Arc<User> {
    let limits = UserLimits { connections: 0, connects: None };
    Users::default().connect(user, app, limits, 0).expect("no limits")
}

/// Frames: their payloads as text, or as the list of their bytes where they are binary.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut frames = Vec::new();
    while let Some(length) = ws::frame_length(bytes) {
        let (frame, rest) = bytes.split_at(length);
        let header = [2, 4, 10].into_iter().find(|header| ws::header_length(length - header) == *header);
        let payload = &frame[header.expect("a whole frame")..];
        frames.push(match frame[0] {
            0x81 => String::from_utf8(payload.to_vec()).expect("text frames are UTF-8"),
            0x82 => format!("{payload:?}"),
            other => panic!("opcode {other:#x}"),
        });
        bytes = rest;
    }
    assert!(bytes.is_empty());
    frames
}
