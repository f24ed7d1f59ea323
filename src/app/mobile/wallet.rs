//! What backends say of wallets: which of a user's events are for the namespace `/wallet`, and what the store keeps.

use smol_str::SmolStr;

use crate::limits::NAME_BYTES;
use crate::proto::json::Raw;
use crate::record::mobile::MobileWrite;

/// What the names of events for `/wallet` start with.
const PREFIXES: [&[u8]; 4] = [b"balance:", b"transaction:", b"payment:", b"wallet:"];

/// Longest amount, bytes: far more digits than any currency has.
const AMOUNT_BYTES: usize = 128;

/// Why an event is not kept, and so not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotKept(pub &'static str);

/// Whether a user's event is for the namespace `/wallet`, by its name, a JSON string literal; all others are for `/chat`.
pub fn is_of_wallet(event: &[u8]) -> bool {
    let inner = event.strip_prefix(b"\"").unwrap_or(event);
    if inner.contains(&b'\\') {
        // Seldom: somebody has escaped what needs no escape.
        let name = serde_json::from_slice::<String>(event).unwrap_or_default();
        return PREFIXES.iter().any(|prefix| name.as_bytes().starts_with(prefix));
    }
    PREFIXES.iter().any(|prefix| inner.starts_with(prefix))
}

/// What the store is to keep of an event for this user; `None`: nothing.
///
/// # Errors
/// The data lack what is to be kept.
pub fn kept(user: &str, event: &str, data: Raw<'_>) -> Option<Result<MobileWrite, NotKept>> {
    match event {
        "balance:updated" => Some(balance(user, data)),
        "transaction:added" => Some(transaction(user, data)),
        _ => None,
    }
}

/// `{currency, balance, …}`
fn balance(user: &str, data: Raw<'_>) -> Result<MobileWrite, NotKept> {
    let error = NotKept("the data of balance:updated has a currency and a balance, a number or a string");
    let currency = data.get("currency").and_then(name).ok_or(error)?;
    let balance = data.get("balance").filter(|balance| balance.is_number() || balance.is_string());
    let balance = balance.filter(|balance| balance.text().len() <= AMOUNT_BYTES).ok_or(error)?;
    Ok(MobileWrite::SetBalance { user: user.into(), currency, balance: balance.text().into() })
}

/// `{id, …}`
fn transaction(user: &str, data: Raw<'_>) -> Result<MobileWrite, NotKept> {
    let error = NotKept("the data of transaction:added has an id of 1 to 128 bytes, a string or a number");
    let id = data.get("id").ok_or(error)?;
    let id = match id.is_number() {
        true => Some(SmolStr::new(id.text())).filter(|id| id.len() <= NAME_BYTES),
        false => name(id),
    };
    let id = id.ok_or(error)?;
    Ok(MobileWrite::AddTransaction { user: user.into(), id, data: data.text().into() })
}

/// A name within the bounds of all names.
fn name(value: Raw<'_>) -> Option<SmolStr> {
    let is_good = |name: &str| (1..=NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    value.as_str().filter(|name| is_good(name)).map(SmolStr::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::json::Parser;

    #[test]
    fn names_say_which_namespace_an_event_is_for() {
        for wallet in
            ["balance:updated", "transaction:added", "payment:notification", "wallet:updated", "wallet:"]
        {
            assert!(is_of_wallet(format!("\"{wallet}\"").as_bytes()), "{wallet}");
        }
        for chat in ["message:received", "balance", "balances:updated", "my balance:updated", "", "wallet"] {
            assert!(!is_of_wallet(format!("\"{chat}\"").as_bytes()), "{chat}");
        }
        assert!(is_of_wallet(br#""\u0062alance:updated""#));
        assert!(!is_of_wallet(br#""\u0063alance:updated""#));
    }

    #[test]
    fn what_is_kept_is_kept_as_it_was_written() {
        let mut parser = Parser::new(64);
        let mut keep = |event: &str, data: &str| {
            let data = parser.parse(data.as_bytes()).expect("JSON");
            kept("ada", event, data).map(|kept| kept.map_err(|NotKept(error)| error.split(' ').nth(3)))
        };
        let balance = |balance: &str| {
            let (user, currency) = ("ada".into(), "BTC".into());
            Some(Ok(MobileWrite::SetBalance { user, currency, balance: balance.into() }))
        };
        let event = "balance:updated";
        assert_eq!(keep(event, r#"{"currency":"BTC","balance":0.10,"change":1}"#), balance("0.10"));
        assert_eq!(keep(event, r#"{"balance":"1e3","currency":"BTC"}"#), balance("\"1e3\""));
        let bad = [r#"{}"#, r#"{"currency":"BTC"}"#, r#"{"currency":7,"balance":1}"#, r#"[]"#, "null"];
        let worse = [r#"{"currency":"","balance":1}"#, r#"{"currency":"BTC","balance":null}"#];
        for bad in bad.into_iter().chain(worse) {
            assert_eq!(keep(event, bad), Some(Err(Some("balance:updated"))), "{bad}");
        }
        let event = "transaction:added";
        let added = |id: &str, data: &str| {
            let (user, id) = ("ada".into(), id.into());
            Some(Ok(MobileWrite::AddTransaction { user, id, data: data.into() }))
        };
        for (id, data) in [("t1", r#"{"id":"t1", "amount":1.0}"#), ("12", r#"{"id":12}"#)] {
            assert_eq!(keep(event, data), added(id, data));
        }
        for bad in ["{}", r#"{"id":""}"#, r#"{"id":null}"#, "7"] {
            assert_eq!(keep(event, bad), Some(Err(Some("transaction:added"))), "{bad}");
        }
        assert_eq!(keep("payment:notification", "{}"), None);
        assert_eq!(keep("wallet:updated", "{}"), None);
    }
}
