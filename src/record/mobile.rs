//! What the app `mobile` keeps (`spec/mobile.md`): messages between two users, and what backends have said of wallets.

use std::sync::Arc;

use smol_str::SmolStr;
use uuid::Uuid;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MobileWrite {
    /// Say something to another user. [`MobileAnswer::Sent`].
    Send {
        /// Who says it.
        by: SmolStr,
        /// What, and to whom.
        message: NewPersonalMessage,
    },
    /// What is to be given next to a connection, oldest first. It changes nothing; it is among the changes because its
    /// answer has its place among the messages that are told: a connection that has been given all has those that come
    /// before the answer, and those that come after are live. [`MobileAnswer::Queued`].
    Queued {
        /// Whose connection.
        user: SmolStr,
        /// Where it is; `None`: it has been given nothing, and begins behind what another one has shown to have.
        place: Option<Place>,
        /// Most bytes of it at once, as the client is written it; one message is given in any case.
        bytes: usize,
    },
    /// A connection has shown that it has all up to this one. [`Answer::Done`](super::Answer::Done).
    Given {
        /// Whose connection.
        user: SmolStr,
        /// The number of the last message that it was sent, or that is left to the history.
        up_to: u64,
    },
    /// A user has so much of a currency now. [`Answer::Done`](super::Answer::Done).
    SetBalance {
        /// Whose.
        user: SmolStr,
        /// Of which currency.
        currency: SmolStr,
        /// How much, a JSON number or string.
        balance: Box<str>,
    },
    /// A user has a transaction; one with a known id takes the place of that one. [`Answer::Done`](super::Answer::Done).
    AddTransaction {
        /// Whose.
        user: SmolStr,
        /// Its id.
        id: SmolStr,
        /// All that is said of it, a JSON object.
        data: Box<str>,
    },
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MobileQuery {
    /// What two users have said to each other, newest first. [`MobileAnswer::Messages`].
    Messages {
        /// Who asks.
        user: SmolStr,
        /// The other.
        with: SmolStr,
        /// Messages of a page, 1 to [`Query::MOST_OF_PAGE`](super::Query::MOST_OF_PAGE).
        limit: usize,
        /// The last message of the page before.
        before: Option<Uuid>,
    },
    /// The last message with each user he has talked to, newest first. [`MobileAnswer::Messages`].
    Conversations {
        /// Who asks.
        user: SmolStr,
        /// Messages of a page, 1 to [`MobileQuery::MOST_PARTNERS`].
        limit: usize,
        /// The last message of the page before.
        before: Option<Uuid>,
    },
    /// What a user has, by currency. [`MobileAnswer::Balances`].
    Balances {
        /// Whose.
        user: SmolStr,
    },
    /// A user's transactions, newest first. [`MobileAnswer::Transactions`].
    Transactions {
        /// Whose.
        user: SmolStr,
        /// Transactions of a page, 1 to [`Query::MOST_OF_PAGE`](super::Query::MOST_OF_PAGE).
        limit: usize,
        /// The last transaction of the page before.
        before: Option<SmolStr>,
    },
}

impl MobileQuery {
    /// Most messages that a connection is given of those that came before it; the history has the rest
    /// (`spec/mobile.md`).
    pub const MOST_QUEUED: usize = 500;
    /// Most users in a list of those somebody has talked to.
    pub const MOST_PARTNERS: usize = 500;
    /// Most currencies of a wallet that are listed.
    pub const MOST_BALANCES: usize = 1_000;
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MobileAnswer {
    /// The message is stored.
    Sent {
        /// The message.
        message: PersonalMessage,
        /// Whether it was stored now. `false`: this is what the first with its `client_message_id` became, and nobody was
        /// told anything.
        first: bool,
    },
    /// What a connection is to be given.
    Queued(Queued),
    /// A page of messages, newest first.
    Messages(PersonalPage),
    /// What a user has, by currency.
    Balances(Vec<Balance>),
    /// A page of transactions, newest first.
    Transactions(TransactionPage),
}

/// What others are to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MobileEffect {
    /// To both users.
    Message(PersonalMessage),
}

/// A message from one user to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonalMessage {
    /// Its place in the order of all personal messages, from 1. Nobody outside sees it.
    pub number: u64,
    /// Its id, UUID v7.
    pub id: Uuid,
    /// Who said it.
    pub sender: SmolStr,
    /// To whom.
    pub recipient: SmolStr,
    /// Its type, a word of the client's.
    pub kind: SmolStr,
    /// Its content.
    pub content: Arc<str>,
    /// The address of what it shows.
    pub media_url: Option<Arc<str>>,
    /// The sender's own name for it.
    pub client_message_id: Option<SmolStr>,
    /// When it was stored.
    pub created_at: u64,
}

impl PersonalMessage {
    /// The canonical id of the two.
    pub fn room_id(&self) -> String {
        pair_id(&self.sender, &self.recipient)
    }

    /// The one of the two who is not this one.
    pub fn partner_of(&self, user: &str) -> &SmolStr {
        if self.sender == user { &self.recipient } else { &self.sender }
    }
}

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPersonalMessage {
    /// To whom; not the sender.
    pub recipient: SmolStr,
    /// Its type.
    pub kind: SmolStr,
    /// Its content.
    pub content: Arc<str>,
    /// The address of what it shows.
    pub media_url: Option<Arc<str>>,
    /// The sender's own name for it: a repeated one stores nothing.
    pub client_message_id: Option<SmolStr>,
}

/// A page of messages, or of what has a message each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonalPage {
    /// The messages, newest first.
    pub messages: Vec<PersonalMessage>,
    /// Whether there are older ones.
    pub has_more: bool,
}

/// How far a connection has been given what was said to its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the last message that it was given, or that is left to the history.
    pub after: u64,
    /// The number of the last message that came before the connection.
    pub until: u64,
    /// How many of those that came before it may still be given.
    pub left: usize,
}

/// Messages that a connection is to be given, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// As many as fit into what a client takes at once.
    pub messages: Vec<PersonalMessage>,
    /// Where the connection is when it has these.
    pub place: Place,
    /// More are to be asked for then.
    pub has_more: bool,
}

/// What a user has of a currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The currency.
    pub currency: SmolStr,
    /// How much: a JSON number or string as the backend wrote it.
    pub balance: Box<str>,
    /// When the backend said so.
    pub updated_at: u64,
}

/// A transaction of a user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The backend's id of it.
    pub id: SmolStr,
    /// All that the backend said of it, a JSON object as it was written.
    pub data: Box<str>,
}

/// A page of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionPage {
    /// Newest first.
    pub transactions: Vec<Transaction>,
    /// Whether there are older ones.
    pub has_more: bool,
}

/// Between the two users of a pair id.
const SEPARATOR: char = '~';

/// The canonical id of two users: both ids in order, with a `~` between them. A `~` or `%` in an id is written as in an
/// address (RFC 3986 §2.1), so that the id can be read again.
pub fn pair_id(one: &str, other: &str) -> String {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    format!("{}{SEPARATOR}{}", escape(first), escape(second))
}

/// The two users of a pair id, in order; `None`: the text is none.
pub fn read_pair_id(text: &str) -> Option<[SmolStr; 2]> {
    let (first, second) = text.split_once(SEPARATOR)?;
    let pair = [unescape(first)?, unescape(second)?];
    let is_canonical = pair[0] < pair[1] && !pair[0].is_empty() && pair_id(&pair[0], &pair[1]) == text;
    is_canonical.then_some(pair)
}

fn escape(id: &str) -> String {
    id.replace('%', "%25").replace(SEPARATOR, "%7E")
}

fn unescape(text: &str) -> Option<SmolStr> {
    if text.contains(SEPARATOR) {
        return None;
    }
    Some(text.replace("%7E", "~").replace("%25", "%").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_id_is_the_same_from_both_sides_and_can_be_read() {
        for (one, other) in
            [("ada", "bob"), ("7", "12"), ("a~b", "a"), ("%7E", "~"), ("%", "%25"), ("Ã¶~%", "ö~")]
        {
            let id = pair_id(one, other);
            assert_eq!(id, pair_id(other, one));
            let mut pair = [one, other];
            pair.sort_unstable();
            assert_eq!(read_pair_id(&id).expect("canonical").each_ref().map(SmolStr::as_str), pair, "{id}");
        }
        for none in ["ada", "", "~", "~bob", "ada~", "bob~ada", "ada~ada", "a~b~c", "a%~b", "%7e~a"] {
            assert_eq!(read_pair_id(none), None, "{none}");
        }
    }
}
