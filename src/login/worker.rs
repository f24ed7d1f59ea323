//! A thread of the identity provider: one request after another, from what is asked to the tokens.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde_json::{Map, Value};
use smol_str::SmolStr;
use uuid::Uuid;

use super::{Answers, Issuer, Job, Jobs, LoginRequest, Mail, Shared};
use crate::app::rest::login::{CONNECT_SECONDS, Issued, LoginAnswer, LoginCall, LoginError};
use crate::auth::{Claims, new_refresh_token, password, refresh_token_hash};
use crate::mailbox::{Asker, Request};
use crate::record::{
    Account, Answer, NewRefreshToken, Query, Refreshed, Refusal, TokenFault, TokenHash, Write,
};
use crate::settings::Secret;
use crate::store::{NotTaken, Store};
use crate::time::Now;

/// How long the store may take: longer than it waits for another program (`fanfare user`) to end its transaction.
const PATIENCE: Duration = Duration::from_secs(10);

/// A worker.
pub(super) struct Worker {
    index: u8,
    shared: Arc<Shared>,
    mail: Receiver<Mail>,
    store: Store,
    /// Of the newest request to the store.
    ticket: u64,
}

impl Worker {
    pub(super) fn new(index: u8, shared: Arc<Shared>, mail: Receiver<Mail>, store: Store) -> Worker {
        Worker { index, shared, mail, store, ticket: 0 }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self, jobs: &Jobs, mut answers: impl Answers) {
        while let Some(Job::Request(request)) = jobs.next() {
            let (shard, ticket) = (request.shard, request.ticket);
            let answer = match self.shared.is_stopped.load(Ordering::Acquire) {
                true => Err(LoginError::Busy),
                false => self.answer(*request),
            };
            answers.answer(shard, ticket, answer);
        }
    }

    fn answer(&mut self, request: LoginRequest) -> LoginAnswer {
        let issuer = Arc::clone(&self.shared.issuer.lock());
        if !issuer.is_on {
            return Err(LoginError::Off);
        }
        let at = request.at;
        match &request.call {
            LoginCall::Password { email, password } => {
                let Some(rate) = issuer.failures else { return self.sign_in(&issuer, email, password, at) };
                let is_exempt = issuer.exempt.iter().any(|range| range.contains(request.address));
                let address = (!is_exempt).then_some(request.address);
                let begun = self.shared.failures.lock().begin(email, address, rate, at.mono);
                let attempt = begun.map_err(LoginError::TooMany)?;
                let answer = self.sign_in(&issuer, email, password, at);
                if answer != Err(LoginError::Wrong) {
                    self.shared.failures.lock().give_back(&attempt);
                }
                answer
            }
            LoginCall::Exchange { token } => self.exchange(&issuer, token, at),
            LoginCall::Refresh { token } => self.refresh(&issuer, token, at),
            LoginCall::WebSocketToken { token } => websocket_token(&issuer, token, at),
        }
    }

    /// Signs somebody in. An address that nobody has costs the same work.
    fn sign_in(&mut self, issuer: &Issuer, email: &SmolStr, password: &Secret, at: Now) -> LoginAnswer {
        let found = self.read(at, Query::AccountByEmail { email: email.clone() })?;
        let account = match found {
            Ok(Answer::FoundAccount(account)) => account,
            other => return Err(unexpected(other)),
        };
        self.shared.passwords_checked.fetch_add(1, Ordering::Relaxed);
        let hash = account.as_ref().map(|account| &account.password_hash);
        let is_right = password::verify(password.expose(), hash);
        match account {
            Some(account) if is_right && !account.disabled => {
                let claims = account_claims(&account);
                self.issue(issuer, &account.id, claims, true, at)
            }
            _ => Err(LoginError::Wrong),
        }
    }

    /// Signs in the user of another provider; what his token says of him is kept for refreshes.
    fn exchange(&mut self, issuer: &Issuer, token: &Secret, at: Now) -> LoginAnswer {
        let provider = issuer.exchange.as_ref().ok_or(LoginError::NoExchange)?;
        let identity = provider.verify(token.expose(), at.unix_seconds()).map_err(LoginError::Token)?;
        let claims = identity.details.as_ref().map(|details| details.to_claims()).unwrap_or_default();
        self.issue(issuer, &identity.user, claims, false, at)
    }

    /// An access token, and a refresh token that begins a family.
    fn issue(
        &mut self,
        issuer: &Issuer,
        user: &str,
        claims: Map<String, Value>,
        is_account: bool,
        at: Now,
    ) -> LoginAnswer {
        let (refresh, token) = new_token()?;
        let kept = NewRefreshToken {
            token,
            family: Uuid::now_v7(),
            user: user.into(),
            claims: (!is_account).then(|| Value::from(claims.clone()).to_string().into()),
            expires_at: refresh_end(issuer, at),
        };
        match self.write(at, Write::SaveRefreshToken(kept))? {
            Ok(Answer::Done) => tokens(issuer, user, claims, refresh, at),
            // He was disabled or removed while his password was checked.
            Err(Refusal::Token(_) | Refusal::NotFound(_)) if is_account => Err(LoginError::Wrong),
            Err(Refusal::Token(fault)) => Err(LoginError::Refresh(fault)),
            other => Err(unexpected(other)),
        }
    }

    /// A new access token, and where they rotate a new refresh token (`spec/decisions.md` 1).
    fn refresh(&mut self, issuer: &Issuer, presented: &Secret, at: Now) -> LoginAnswer {
        let token = refresh_token_hash(presented.expose()).map(TokenHash);
        let token = token.ok_or(LoginError::Refresh(TokenFault::Unknown))?;
        let (next, replacement) = if issuer.rotate_refresh {
            let (next, token) = new_token()?;
            (next, Some((token, refresh_end(issuer, at))))
        } else {
            (presented.clone(), None)
        };
        let refreshed = match self.write(at, Write::UseRefreshToken { token, replacement })? {
            Ok(Answer::Refreshed(refreshed)) => refreshed,
            Err(Refusal::Token(fault)) => return Err(LoginError::Refresh(fault)),
            other => return Err(unexpected(other)),
        };
        tokens(issuer, &refreshed.user, refreshed_claims(&refreshed), next, at)
    }

    fn read(&mut self, at: Now, query: Query) -> Result<Result<Answer, Refusal>, LoginError> {
        let request = Request { asker: self.asker(), at: at.unix_ms(), what: query };
        let taken = self.store.read(request);
        self.wait(taken)
    }

    fn write(&mut self, at: Now, write: Write) -> Result<Result<Answer, Refusal>, LoginError> {
        let request = Request { asker: self.asker(), at: at.unix_ms(), what: write };
        let taken = self.store.write(request);
        self.wait(taken)
    }

    fn asker(&mut self) -> Asker {
        self.ticket += 1;
        Asker::Login { worker: self.index, ticket: self.ticket }
    }

    /// Waits for the answer to the newest request.
    fn wait(&self, taken: Result<(), NotTaken>) -> Result<Result<Answer, Refusal>, LoginError> {
        taken.map_err(|_| LoginError::Busy)?;
        loop {
            match self.mail.recv_timeout(PATIENCE) {
                Ok((ticket, answer)) if ticket == self.ticket => return Ok(answer),
                // It was given up on.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!("the store has not answered the identity provider for {PATIENCE:?}");
                    return Err(LoginError::Busy);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(LoginError::Busy),
            }
        }
    }
}

/// A single-use token for the bearer of an access token.
fn websocket_token(issuer: &Issuer, token: &Secret, at: Now) -> LoginAnswer {
    let now = at.unix_seconds();
    let identity = issuer.verifier.verify(token.expose(), now).map_err(LoginError::Token)?;
    let signed = issuer.verifier.sign_to_connect(&identity, CONNECT_SECONDS, now);
    let token = signed.map(Secret::new).map_err(|error| internal(&error))?;
    Ok(Issued::WebSocket { token, expires_in: CONNECT_SECONDS })
}

/// An access token beside a refresh token that is stored.
fn tokens(
    issuer: &Issuer,
    user: &str,
    mut claims: Map<String, Value>,
    refresh: Secret,
    at: Now,
) -> LoginAnswer {
    let (now, expires_in) = (at.unix_seconds(), issuer.access_ttl.as_secs());
    claims.insert("iat".to_owned(), Value::from(now));
    let claims = Claims { sub: user.to_owned(), exp: now.saturating_add(expires_in), more: claims };
    let access = issuer.verifier.sign(&claims).map(Secret::new).map_err(|error| internal(&error))?;
    Ok(Issued::Tokens { access, refresh, expires_in })
}

/// When a refresh token of now ends, Unix ms.
fn refresh_end(issuer: &Issuer, at: Now) -> u64 {
    at.unix_ms().saturating_add(issuer.refresh_ttl.as_millis() as u64)
}

fn new_token() -> Result<(Secret, TokenHash), LoginError> {
    let token = new_refresh_token().map_err(|_| internal(&"the system gives no random bytes"))?;
    let hash = refresh_token_hash(token.expose());
    let hash = hash.ok_or_else(|| internal(&"a new refresh token has not the form of one"))?;
    Ok((token, TokenHash(hash)))
}

/// What the tokens of an account say beside the user.
fn account_claims(account: &Account) -> Map<String, Value> {
    let mut claims = Map::new();
    if !account.username.is_empty() {
        claims.insert("username".to_owned(), Value::from(account.username.as_str()));
    }
    if let Ok(Value::Array(roles)) = serde_json::from_str(&account.roles)
        && !roles.is_empty()
    {
        claims.insert("roles".to_owned(), Value::from(roles));
    }
    claims
}

/// What the tokens of whoever refreshed say: what was kept for the user of another provider, else what his account says
/// now.
fn refreshed_claims(refreshed: &Refreshed) -> Map<String, Value> {
    match (&refreshed.claims, &refreshed.account) {
        (Some(claims), _) => serde_json::from_str(claims).unwrap_or_default(),
        (None, Some(account)) => account_claims(account),
        (None, None) => Map::new(),
    }
}

/// The store failed, or gave the answer to something else.
fn unexpected(answer: Result<Answer, Refusal>) -> LoginError {
    match answer {
        // It is in the log already.
        Err(Refusal::Internal { error_id }) => LoginError::Internal { error_id },
        Err(refusal) => internal(&refusal),
        Ok(_) => internal(&"the store answered something else"),
    }
}

fn internal(error: &dyn std::fmt::Display) -> LoginError {
    let error_id = Uuid::now_v7();
    tracing::error!(%error, %error_id, "no token could be given out");
    LoginError::Internal { error_id }
}
