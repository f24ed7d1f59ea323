//! An identity provider on a real file, asked one thing after another at times that the test chooses.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use fanfare::app::rest::login::{Issued, LoginAnswer, LoginCall, LoginError};
use fanfare::auth::{Identity, Verifier, password};
use fanfare::limits::Limits;
use fanfare::login::{Answers, Issuer, Login, LoginRequest, LoginThreads, Workers};
use fanfare::mailbox::Asker;
use fanfare::metrics::StoreMetrics;
use fanfare::record::{Answer, Effect, NewAccount, Refusal, Write};
use fanfare::settings::{AuthSettings, Secret};
use fanfare::store::{Database, Effects, Store, StoreThreads};
use fanfare::time::Now;
use uuid::Uuid;

pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub const EMAIL: &str = "Ann@example.com";
pub const PASSWORD: &str = "correct horse";

/// How long an answer may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that goes with the test.
pub struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        let path = std::env::temp_dir().join(format!("fanfare-login-{}", Uuid::now_v7()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Carries the store's answers to the identity provider.
#[derive(Clone)]
struct Carrier(Login);

impl Effects for Carrier {
    fn publish(&mut self, _: Effect) {}

    fn answer(&mut self, asker: Asker, answer: Result<Answer, Refusal>) {
        let Asker::Login { worker, ticket } = asker else { panic!("{asker:?}") };
        self.0.answered(worker, ticket, answer);
    }

    fn flush(&mut self) {}
}

/// Keeps the identity provider's answers.
#[derive(Clone)]
struct Recorder(Sender<(u8, u64, LoginAnswer)>);

impl Answers for Recorder {
    fn answer(&mut self, shard: u8, ticket: u64, answer: LoginAnswer) {
        let _ = self.0.send((shard, ticket, answer));
    }
}

/// A provider.
pub struct Provider {
    pub login: Login,
    pub auth: AuthSettings,
    pub limits: Limits,
    /// The time of the next request.
    pub now: Now,
    pub directory: Directory,
    workers: Option<Workers>,
    threads: Option<LoginThreads>,
    store: Option<(Store, StoreThreads)>,
    recorder: Recorder,
    answers: Receiver<(u8, u64, LoginAnswer)>,
    ticket: u64,
}

impl Provider {
    /// With [`EMAIL`], an agent, and these settings.
    pub fn with(change: impl FnOnce(&mut AuthSettings, &Directory)) -> Provider {
        let mut provider = Provider::stopped(change);
        provider.start();
        provider
    }

    pub fn new() -> Provider {
        Provider::with(|_, _| {})
    }

    /// The same, before its threads are started.
    pub fn stopped(change: impl FnOnce(&mut AuthSettings, &Directory)) -> Provider {
        let directory = Directory::new();
        let path = directory.file("test.db");
        let mut auth = AuthSettings { secret: Secret::new(SECRET), ..AuthSettings::default() };
        change(&mut auth, &directory);
        let account = NewAccount {
            id: "ann-1".into(),
            email: EMAIL.into(),
            password_hash: password::hash(PASSWORD).unwrap(),
            username: "ann".into(),
            roles: r#"["agent"]"#.into(),
        };
        Database::open(&path).unwrap().write(1, &Write::AddAccount(account)).unwrap();
        let limits = Limits::default();
        let verifier = Arc::new(Verifier::new(&auth).unwrap());
        let (login, workers) = Login::new(Issuer::new(&auth, &limits, verifier).unwrap());
        let store = Store::start(&path, Carrier(login.clone()), Arc::new(StoreMetrics::default())).unwrap();
        let (sender, answers) = unbounded();
        Provider {
            login,
            auth,
            limits,
            now: Now::read(),
            directory,
            workers: Some(workers),
            threads: None,
            store: Some(store),
            recorder: Recorder(sender),
            answers,
            ticket: 0,
        }
    }

    pub fn start(&mut self) {
        let (store, _) = self.store.as_ref().unwrap();
        self.threads = Some(self.workers.take().unwrap().start(store, &self.recorder).unwrap());
    }

    pub fn stop(&mut self) {
        self.threads.take().unwrap().stop();
    }

    pub fn stop_store(&mut self) {
        self.store.take().unwrap().1.stop();
    }

    /// A change from outside, as `fanfare user` makes it.
    pub fn change(&self, write: &Write) {
        let mut database = Database::open(&self.directory.file("test.db")).unwrap();
        database.write(self.now.unix_ms(), write).unwrap();
    }

    pub fn reload(&self) {
        self.login.reload(Issuer::new(&self.auth, &self.limits, self.verifier()).unwrap());
    }

    pub fn verifier(&self) -> Arc<Verifier> {
        Arc::new(Verifier::new(&self.auth).unwrap())
    }

    pub fn later(&mut self, by: Duration) {
        self.now = self.now.plus(by);
    }

    /// Asks without waiting.
    pub fn send(&mut self, call: LoginCall, address: &str) -> Result<u64, LoginError> {
        self.ticket += 1;
        let address: IpAddr = address.parse().unwrap();
        let request = LoginRequest { shard: 3, ticket: self.ticket, call, address, at: self.now };
        self.login.ask(request).map(|()| self.ticket)
    }

    /// The next answer, and to which ticket.
    pub fn next(&self) -> (u64, LoginAnswer) {
        let (shard, ticket, answer) = self.answers.recv_timeout(PATIENCE).unwrap();
        assert_eq!(shard, 3);
        (ticket, answer)
    }

    pub fn ask_from(&mut self, call: LoginCall, address: &str) -> LoginAnswer {
        let sent = self.send(call, address)?;
        let (ticket, answer) = self.next();
        assert_eq!(ticket, sent);
        answer
    }

    /// Asks from an address to which no limit applies.
    pub fn ask(&mut self, call: LoginCall) -> LoginAnswer {
        self.ask_from(call, "127.0.0.1")
    }

    pub fn sign_in(&mut self) -> Tokens {
        tokens(self.ask(password(EMAIL, PASSWORD)))
    }

    pub fn refresh(&mut self, token: &Secret) -> LoginAnswer {
        self.ask(LoginCall::Refresh { token: token.clone() })
    }

    pub fn identity(&self, access: &Secret) -> Identity {
        self.verifier().verify(access.expose(), self.now.unix_seconds()).unwrap()
    }
}

/// What a sign-in gives.
#[derive(Debug)]
pub struct Tokens {
    pub access: Secret,
    pub refresh: Secret,
    pub expires_in: u64,
}

pub fn tokens(answer: LoginAnswer) -> Tokens {
    match answer {
        Ok(Issued::Tokens { access, refresh, expires_in }) => Tokens { access, refresh, expires_in },
        other => panic!("{other:?}"),
    }
}

pub fn password(email: &str, password: &str) -> LoginCall {
    LoginCall::Password { email: email.into(), password: Secret::new(password) }
}
