//! Reading the configuration again while the broker runs: what can change live is taken over, what cannot is named.

use std::any::Any;
use std::collections::VecDeque;

use super::keys::{Change, Visitor};
use super::setting::Setting;
use super::{Config, ConfigError, Sources};

impl Config {
    /// Reads the sources again. The result has the new values of the keys that can change live and this
    /// configuration's values of the others; the changed ones among the others are named.
    pub fn reload(&self, sources: &Sources) -> Result<(Config, Vec<String>), ConfigError> {
        let mut next = Config::load(sources)?;
        let mut kept = Vec::new();
        // A listener cannot begin or cease to speak TLS while its connections live.
        if next.tls.is_on() != self.tls.is_on() {
            next.tls = self.tls.clone();
            kept.push("tls".to_owned());
        }
        if next.ingest.tls.server.is_on() != self.ingest.tls.server.is_on() {
            next.ingest.tls = self.ingest.tls.clone();
            kept.push("ingest.tls".to_owned());
        }
        let mut values = Values(VecDeque::new());
        self.clone().visit(&mut values);
        let mut keep = Keep { values: values.0, kept };
        next.visit(&mut keep);
        Ok((next, keep.kept))
    }
}

/// The value of every key, in order.
struct Values(VecDeque<Box<dyn Any>>);

impl Visitor for Values {
    fn key<T: Setting>(&mut self, _: &'static str, _: Change, field: &mut T) {
        self.0.push_back(Box::new(field.clone()));
    }
}

/// Puts back the values of keys that cannot change live.
struct Keep {
    values: VecDeque<Box<dyn Any>>,
    kept: Vec<String>,
}

impl Visitor for Keep {
    fn key<T: Setting>(&mut self, name: &'static str, change: Change, field: &mut T) {
        // The list is the same for both visits, so the types agree.
        let Some(value) = self.values.pop_front().and_then(|value| value.downcast::<T>().ok()) else {
            return;
        };
        if change == Change::Restart && *value != *field {
            *field = *value;
            self.kept.push(name.to_owned());
        }
    }
}
