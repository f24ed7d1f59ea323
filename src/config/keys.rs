//! The list of all keys: name, field, and whether it can change while the broker runs.
//!
//! Reading, printing, suggesting and reloading are visitors of this one list, so a key is added here, as a
//! field with a default, and nowhere else.

use super::Config;
use super::setting::{CountOrOff, Setting};
use crate::audience::App;

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// At `SIGHUP`.
    Live,
    /// At the next start.
    Restart,
}

use Change::{Live, Restart};

/// Something done to every key.
pub(super) trait Visitor {
    /// Called once for each key, in the order of `spec/operations.md`.
    fn key<T: Setting>(&mut self, name: &'static str, change: Change, field: &mut T);
}

impl Config {
    /// Shows every key to the visitor.
    pub(super) fn visit(&mut self, v: &mut impl Visitor) {
        v.key("listen", Restart, &mut self.listen);
        v.key("shards", Restart, &mut self.shards);
        v.key("allowed_origins", Live, &mut self.allowed_origins);
        v.key("trusted_proxies", Restart, &mut self.trusted_proxies);
        v.key("rooms", Restart, &mut self.rooms);
        v.key("tls.cert", Live, &mut self.tls.cert);
        v.key("tls.key", Live, &mut self.tls.key);
        self.visit_ports(v);
        self.visit_apps(v);
        self.visit_auth(v);
        self.visit_limits(v);
        self.visit_times(v);
        v.key("fanout.pace", Restart, &mut self.fanout.pace);
        v.key("openapi.title", Restart, &mut self.openapi.title);
        v.key("filter.words", Restart, &mut self.filter.words);
        v.key("filter.personal_information", Restart, &mut self.filter.personal_information);
        v.key("drain.seconds", Restart, &mut self.drain.seconds);
        v.key("log.level", Live, &mut self.log.level);
        v.key("log.format", Restart, &mut self.log.format);
    }

    fn visit_ports(&mut self, v: &mut impl Visitor) {
        let ingest = &mut self.ingest;
        v.key("ingest.listen", Restart, &mut ingest.listen);
        v.key("ingest.token", Restart, &mut ingest.token);
        v.key("ingest.max_line", Restart, &mut ingest.max_line);
        v.key("ingest.tls.cert", Live, &mut ingest.tls.server.cert);
        v.key("ingest.tls.key", Live, &mut ingest.tls.server.key);
        v.key("ingest.tls.client_ca", Live, &mut ingest.tls.client_ca);
        v.key("admin.listen", Restart, &mut self.admin.listen);
        v.key("admin.token", Restart, &mut self.admin.token);
        v.key("store.path", Restart, &mut self.store.path);
    }

    fn visit_apps(&mut self, v: &mut impl Visitor) {
        for app in App::ALL {
            let name = match app {
                App::Account => "apps.account",
                App::Market => "apps.market",
                App::Conversation => "apps.conversation",
                App::Support => "apps.support",
                App::Mobile => "apps.mobile",
            };
            v.key(name, Restart, &mut self.apps.on[app.index()]);
        }
    }

    fn visit_auth(&mut self, v: &mut impl Visitor) {
        let auth = &mut self.auth;
        v.key("auth.secret", Live, &mut auth.secret);
        v.key("auth.secrets", Live, &mut auth.secrets);
        v.key("auth.secret_file", Live, &mut auth.secret_file);
        v.key("auth.public_keys", Live, &mut auth.public_keys);
        v.key("auth.jwks_file", Live, &mut auth.jwks_file);
        v.key("auth.issuer", Live, &mut auth.issuer);
        v.key("auth.audience", Live, &mut auth.audience);
        v.key("auth.anonymous", Restart, &mut auth.anonymous);
        v.key("auth.grace", Restart, &mut auth.grace);
        v.key("auth.issue_tokens", Restart, &mut auth.issue_tokens);
        v.key("auth.access_ttl", Restart, &mut auth.access_ttl);
        v.key("auth.refresh_ttl", Restart, &mut auth.refresh_ttl);
        v.key("auth.rotate_refresh", Restart, &mut auth.rotate_refresh);
        v.key("auth.exchange.public_keys", Live, &mut auth.exchange.public_keys);
        v.key("auth.exchange.issuer", Live, &mut auth.exchange.issuer);
        v.key("auth.exchange.audience", Live, &mut auth.exchange.audience);
    }

    fn visit_limits(&mut self, v: &mut impl Visitor) {
        let limits = &mut self.limits;
        v.key("limits.message_size", Restart, &mut limits.message_size);
        v.key("limits.connections", Restart, &mut limits.connections);
        let mut per_user = CountOrOff(limits.connections_per_user);
        v.key("limits.connections_per_user", Restart, &mut per_user);
        limits.connections_per_user = per_user.0;
        v.key("limits.connects_per_user", Live, &mut limits.connects_per_user);
        v.key("limits.connects_per_address", Live, &mut limits.connects_per_address);
        v.key("limits.exempt", Restart, &mut limits.exempt);
        v.key("limits.handshake", Restart, &mut limits.handshake);
        v.key("limits.request_head", Restart, &mut limits.request_head);
        v.key("limits.messages", Live, &mut limits.messages);
        v.key("limits.typing", Live, &mut limits.typing);
        v.key("limits.conversations", Live, &mut limits.conversations);
        v.key("limits.control", Live, &mut limits.control);
        v.key("limits.pings", Live, &mut limits.pings);
        v.key("limits.rooms_per_connection", Restart, &mut limits.rooms_per_connection);
        v.key("limits.rooms", Restart, &mut limits.rooms);
        v.key("limits.keys_per_room", Restart, &mut limits.keys_per_room);
        v.key("limits.attachments", Restart, &mut limits.attachments);
        v.key("limits.json_depth", Restart, &mut limits.json_depth);
        v.key("limits.outbox", Restart, &mut limits.outbox);
        v.key("limits.login", Live, &mut limits.login);
    }

    fn visit_times(&mut self, v: &mut impl Visitor) {
        v.key("liveness.ping_interval", Restart, &mut self.liveness.ping_interval);
        v.key("liveness.pong_timeout", Restart, &mut self.liveness.pong_timeout);
        let socketio = &mut self.socketio;
        v.key("socketio.ping_interval", Restart, &mut socketio.ping_interval);
        v.key("socketio.ping_timeout", Restart, &mut socketio.ping_timeout);
        v.key("socketio.upgrade_timeout", Restart, &mut socketio.upgrade_timeout);
        v.key("socketio.connect_timeout", Restart, &mut socketio.connect_timeout);
        v.key("socketio.recovery", Restart, &mut socketio.recovery);
        v.key("socketio.recovery_namespaces", Restart, &mut socketio.recovery_namespaces);
    }
}

/// The names of all keys, in order.
pub(super) fn names() -> Vec<&'static str> {
    struct Names(Vec<&'static str>);
    impl Visitor for Names {
        fn key<T: Setting>(&mut self, name: &'static str, _: Change, _: &mut T) {
            self.0.push(name);
        }
    }
    let mut names = Names(Vec::new());
    Config::default().visit(&mut names);
    names.0
}
