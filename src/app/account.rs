//! The app `account` (`spec/account.md`): silent until something happens, wire `typed`, times without a fraction.

use std::time::Duration;

use crate::app::{Context, Input, Output, ReplyTo, Session, string, wait_ms};
use crate::close::ErrorCode;
use crate::limits::LABEL_CHARS;
use crate::proto::json::Raw;
use crate::time;

/// What a client says of itself in the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// `ios`, `android`, `web` or something else.
    pub platform: Option<Box<str>>,
    /// The client's version.
    pub version: Option<Box<str>>,
    /// The device model.
    pub device: Option<Box<str>>,
}

impl Labels {
    /// Checks the lengths: at most 64 characters each.
    ///
    /// # Errors
    /// The name of the label that is too long.
    pub fn check(&self) -> Result<(), &'static str> {
        for (name, label) in
            [("platform", &self.platform), ("version", &self.version), ("device", &self.device)]
        {
            if label.as_ref().is_some_and(|label| label.chars().count() > LABEL_CHARS) {
                return Err(name);
            }
        }
        Ok(())
    }

    pub(super) fn into_boxed(self) -> Option<Box<Labels>> {
        (self != Labels::default()).then(|| Box::new(self))
    }
}

impl Session {
    pub(super) fn account_message(&mut self, message: Raw<'_>, context: &mut Context<'_>) {
        let Some(kind) = string(message, "type") else {
            return self.malformed(context, "a message has a \"type\", for example {\"type\":\"ping\"}");
        };
        if !self.allowed(context, Some(&kind)) {
            return;
        }
        match &*kind {
            "ping" => {
                let now = context.now.unix_ms();
                context.out.reply_raw(|pong| {
                    pong.put("type", "pong").put("timestamp", time::seconds(now));
                });
            }
            "message" => {
                let data = context.out.write(|out| out.extend_from_slice(message.bytes()));
                context.out.push(Output::Forward { event: "message".into(), data });
            }
            "authenticate" => self.authenticate(string(message, "token").as_deref(), context),
            _ => self.invalid(context, "unknown type: send ping, message or authenticate", Some(&kind)),
        }
    }

    pub(super) fn account_input(&mut self, input: Input<'_>, context: &mut Context<'_>) {
        if let Input::Unheard = input {
            let message = "nobody takes messages at the moment: try again later";
            self.refuse(context, ErrorCode::ConnectionError, message, Some("message"), None);
        }
    }
}

/// `{"type":"error","data":{code, message, details?}}`
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
        if event.is_some() || wait.is_some() {
            error.object("details", |details| {
                if let Some(event) = event {
                    details.put("type", event);
                }
                if let Some(wait) = wait {
                    details.put("retry_after_ms", wait_ms(wait));
                }
            });
        }
    });
}
