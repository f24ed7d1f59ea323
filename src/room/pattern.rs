//! The room prefixes: the grammar of their names, what happens to slow subscribers, who may join. One row each.
//!
//! `spec/market.md` (names), `spec/limits.md` (policies), `spec/auth.md` (who may join).

use std::borrow::Cow;

use regex_lite::Regex;

use crate::limits::NAME_BYTES;

/// What a subscriber with a full socket gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The newest event of each key, once it can take it.
    Latest,
    /// Everything, up to the outbox limit.
    Every,
}

/// Who may join the rooms of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Any authenticated user; anonymous ones too where `auth.anonymous` is set.
    Authenticated,
    /// Anybody.
    Anonymous,
    /// The user whose id stands behind the prefix.
    Owner,
}

/// The grammar of the part behind the colon, for names that a client types.
#[derive(Clone, Debug)]
enum Grammar {
    /// `[A-Z]{2,10}`
    Symbol,
    /// `[A-Z]{2,10}-[A-Z]{2,10}`
    Pair,
    /// `[a-zA-Z0-9-]{8,}`
    Id,
    /// A configured pattern, matched against the whole part.
    Pattern(Regex),
}

/// One prefix.
#[derive(Clone, Debug)]
pub struct Row {
    prefix: Box<str>,
    grammar: Grammar,
    /// What happens to slow subscribers.
    pub policy: Policy,
    /// Who may join.
    pub access: Access,
}

/// All prefixes: the built-in ones, then the configured ones.
#[derive(Clone, Debug)]
pub struct RoomPatterns {
    rows: Vec<Row>,
}

impl Default for RoomPatterns {
    fn default() -> RoomPatterns {
        let row =
            |prefix: &str, grammar, policy, access| Row { prefix: prefix.into(), grammar, policy, access };
        RoomPatterns {
            rows: vec![
                row("price", Grammar::Pair, Policy::Latest, Access::Authenticated),
                row("trade", Grammar::Pair, Policy::Every, Access::Authenticated),
                row("orderbook", Grammar::Pair, Policy::Latest, Access::Authenticated),
                row("chart", Grammar::Symbol, Policy::Latest, Access::Authenticated),
                row("user", Grammar::Id, Policy::Every, Access::Owner),
                row("portfolio", Grammar::Id, Policy::Latest, Access::Owner),
                row("orders", Grammar::Id, Policy::Every, Access::Owner),
            ],
        }
    }
}

impl RoomPatterns {
    /// Adds a configured prefix. `pattern` is a regular expression for the part behind the colon.
    ///
    /// # Errors
    /// Says what is wrong with the prefix or the pattern.
    pub fn add(&mut self, prefix: &str, pattern: &str, policy: Policy, access: Access) -> Result<(), String> {
        if prefix.is_empty() || prefix.contains(':') || prefix.chars().any(char::is_control) {
            return Err(format!("\"{prefix}\" cannot be a room prefix: write a word without a colon"));
        }
        if self.rows.iter().any(|row| &*row.prefix == prefix) {
            return Err(format!("the room prefix \"{prefix}\" is there already"));
        }
        let whole = Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|error| format!("\"{pattern}\" is not a regular expression: {error}"))?;
        self.rows.push(Row { prefix: prefix.into(), grammar: Grammar::Pattern(whole), policy, access });
        Ok(())
    }

    /// All prefixes.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(Row::prefix)
    }

    /// The row of a name by its prefix alone, as it binds backends; `None`: unknown prefix.
    pub fn row(&self, name: &str) -> Option<&Row> {
        let (prefix, rest) = name.split_once(':')?;
        if rest.is_empty() {
            return None;
        }
        self.rows.iter().find(|row| &*row.prefix == prefix)
    }

    /// The row of a name that a client typed, with the name as it is known here (`user-X` means `user:X`).
    /// `own` is the client's user: a room of its own may have any id.
    pub fn typed<'n>(&self, name: &'n str, own: Option<&str>) -> Option<(Cow<'n, str>, &Row)> {
        if name.len() > NAME_BYTES || name.chars().any(char::is_control) {
            return None;
        }
        let name = match name.strip_prefix("user-") {
            Some(id) => Cow::Owned(format!("user:{id}")),
            None => Cow::Borrowed(name),
        };
        let row = self.row(&name)?;
        let rest = &name[row.prefix.len() + 1..];
        let is_own = row.access == Access::Owner && own == Some(rest);
        (is_own || row.grammar.accepts(rest)).then_some((name, row))
    }
}

impl Row {
    /// The prefix, without the colon.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The user a room of this row belongs to, if it is a user's own.
    pub fn owner<'n>(&self, name: &'n str) -> Option<&'n str> {
        (self.access == Access::Owner).then(|| &name[self.prefix.len() + 1..])
    }
}

impl Grammar {
    fn accepts(&self, rest: &str) -> bool {
        let symbol =
            |text: &str| (2..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase());
        match self {
            Grammar::Symbol => symbol(rest),
            Grammar::Pair => rest.split_once('-').is_some_and(|(base, quote)| symbol(base) && symbol(quote)),
            Grammar::Id => {
                rest.len() >= 8 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            }
            Grammar::Pattern(regex) => regex.is_match(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_clients_type_must_fit_the_grammar() {
        let patterns = RoomPatterns::default();
        for good in
            ["price:BTC-USDC", "chart:BTC", "user:12345678", "portfolio:abc-DEF-1", "trade:AA-BBBBBBBBBB"]
        {
            assert!(patterns.typed(good, None).is_some(), "{good}");
        }
        for bad in [
            "price:BTC",
            "price:btc-usdc",
            "price:B-USDC",
            "price:BTC-USDC-X",
            "price:",
            "price",
            "",
            "nope:ABC",
            "chart:ABCDEFGHIJK",
            "user:short",
            "user:12345678/",
            "price:BTC-USDC\n",
        ] {
            assert!(patterns.typed(bad, None).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_users_own_rooms_may_have_any_id_and_user_may_stand_before_a_hyphen() {
        let patterns = RoomPatterns::default();
        for own in ["user:7", "portfolio:7", "orders:7", "user-7"] {
            assert!(patterns.typed(own, Some("7")).is_some(), "{own}");
        }
        assert!(patterns.typed("orders:7", Some("8")).is_none());
        assert_eq!(patterns.typed("user-7", Some("7")).expect("own room").0, "user:7");
    }

    #[test]
    fn configured_prefixes_match_whole() {
        let mut patterns = RoomPatterns::default();
        patterns.add("news", "[a-z]{2,4}|x", Policy::Latest, Access::Anonymous).expect("a pattern");
        assert!(patterns.typed("news:abc", None).is_some());
        assert!(patterns.typed("news:x", None).is_some());
        assert!(patterns.typed("news:abcde", None).is_none());
        assert!(patterns.add("news", "a", Policy::Every, Access::Owner).is_err());
        assert!(patterns.add("more", "(", Policy::Every, Access::Owner).is_err());
    }
}
