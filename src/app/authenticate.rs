//! A token on a live connection: its end, the grace after it, and a new one (`spec/auth.md`).

use crate::app::{Context, Output, ReplyTo, Session, State};
use crate::auth::AuthError;
use crate::close::{CloseReason, ErrorCode};

impl Session {
    /// The token's time is over: tell the client, or end it when the grace is over too.
    pub(super) fn token_over(&mut self, context: &mut Context<'_>) {
        // A wire without words for it has no grace (`spec/auth.md`).
        let has_grace = !matches!(self.state, State::Support(_));
        if std::mem::replace(&mut self.in_grace, true) || !has_grace {
            return context.out.push(Output::Close(CloseReason::TokenExpired));
        }
        match self.state {
            State::Account(_) => {
                context.out.reply_raw(|message| {
                    message.put("type", "tokenExpired");
                });
            }
            State::Market | State::Conversation(_) | State::Mobile(_) => {
                context.out.reply(self.reply_to(context), "token_expired", |_| {})
            }
            // Nobody asks it for tokens; or it has ended above.
            State::Echo(_) | State::Support(_) => {}
        }
        context.out.push(Output::Deadline);
    }

    /// A new token for the same user: the connection goes on with its rooms.
    pub(super) fn authenticate(&mut self, token: Option<&str>, context: &mut Context<'_>) {
        let verified = token
            .ok_or(AuthError::Missing)
            .and_then(|token| context.verifier.verify(token, context.now.unix_seconds()));
        match verified {
            Ok(identity) if *self.user.id() == *identity.user => {
                self.expires_at = identity.expires_at;
                self.details = identity.details;
                self.in_grace = false;
                self.write_authenticated(context);
                context.out.push(Output::Deadline);
            }
            Ok(_) => self.auth_error(context, ErrorCode::AuthRequired, "the token is another user's"),
            Err(error) => self.auth_error(context, error.code(), &error.to_string()),
        }
    }

    fn auth_error(&self, context: &mut Context<'_>, code: ErrorCode, message: &str) {
        let code = match (&self.state, code) {
            (State::Conversation(_), ErrorCode::AuthRequired) => ErrorCode::Unauthorized,
            _ => code,
        };
        context.out.count_error(code);
        let to = self.reply_to(context);
        context.out.reply(ReplyTo { ack: None, ..to }, "auth_error", |error| {
            error.put("error", message).put("code", code.as_str());
        });
        // The acknowledgement has the form of all errors.
        let ack = context.out.compose_ack_error(to, |error| {
            error.put("code", code.as_str()).put("message", message);
        });
        context.out.push(Output::Reply(ack));
    }

    /// `authenticated {user:{id, username?, roles?}}`
    pub(super) fn write_authenticated(&self, context: &mut Context<'_>) {
        context.out.reply(self.reply_to(context), "authenticated", |data| {
            data.object("user", |user| {
                user.put("id", &**self.user.id());
                let Some(details) = &self.details else { return };
                if let Some(username) = &details.username {
                    user.put("username", username);
                }
                let roles = details.roles();
                if !roles.is_empty() {
                    user.put("roles", roles);
                }
            });
        });
    }
}
