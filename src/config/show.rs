//! The effective configuration as TOML, secrets masked.

use std::fmt::Write;

use toml::Value;

use super::Config;
use super::keys::{Change, Visitor};
use super::setting::Setting;

impl Config {
    /// Every key with its value, in the order of `spec/operations.md`, secrets masked.
    pub fn to_toml(&self) -> String {
        struct Lines(Vec<(&'static str, Value)>);
        impl Visitor for Lines {
            fn key<T: Setting>(&mut self, name: &'static str, _: Change, field: &mut T) {
                self.0.push((name, field.show()));
            }
        }
        let mut lines = Lines(Vec::new());
        self.clone().visit(&mut lines);
        let mut out = String::new();
        let mut section = "";
        for (name, value) in lines.0 {
            let (above, key) = name.split_once('.').unwrap_or(("", name));
            if above != section {
                section = above;
                let _ = writeln!(out, "\n[{section}]");
            }
            let _ = writeln!(out, "{key} = {value}");
        }
        out
    }
}
