//! What backends say of wallets.

use serde_json::{Value, json};

use super::{everywhere, expect_time, name};
use crate::support::http::request;
use crate::support::mobile::{CHAT, Mobile, WALLET, get, rest};

/// More lines than a publisher may have at the store at a time.
const LINES: usize = 100;

#[test]
fn a_balance_is_told_and_can_be_read() {
    everywhere(&[], |broker, transport| {
        let ada = &*name("ada", transport);
        let mut client = Mobile::chat(broker.public, transport, ada);
        client.join(WALLET, ada);
        assert_eq!(get(broker.public, ada, "/api/wallet/balance"), json!({ "balances": [] }));
        let mut publisher = broker.publisher();
        for (currency, balance) in [("USDC", json!("12.50")), ("BTC", json!(0.5)), ("BTC", json!(0.75))] {
            let data = json!({ "currency": currency, "balance": balance, "previous": 1 });
            let line = json!({ "user": ada, "event": "balance:updated", "data": data });
            assert_eq!(publisher.publish(line)["subscribers"], 1);
            assert_eq!(client.expect(WALLET, "balance:updated"), data);
            // Who is told can read it.
            let balances = get(broker.public, ada, "/api/wallet/balance");
            let known = balances["balances"].as_array().unwrap();
            assert!(known.iter().any(|known| known["balance"] == balance), "{balances}");
        }
        // Without an acknowledgement too, and as the bytes were written.
        publisher.send(format!(
            r#"{{"room":"user:{ada}","event":"balance:updated","data":{{"currency":"EUR","balance":10.00}}}}"#
        ));
        assert_eq!(client.expect(WALLET, "balance:updated")["currency"], "EUR");
        let text = rest(broker.public, ada, "GET", "/api/wallet/balance", None).text();
        assert!(text.contains(r#""currency":"EUR","balance":10.00,"#), "{text}");
        let balances = serde_json::from_str::<Value>(&text).unwrap();
        let shown: Vec<_> = balances["balances"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| (&b["currency"], &b["balance"]))
            .collect();
        assert_eq!(
            shown,
            [(&json!("BTC"), &json!(0.75)), (&json!("EUR"), &json!(10.0)), (&json!("USDC"), &json!("12.50"))]
        );
        expect_time(&balances["balances"][0]["updatedAt"]);
        client.expect_nothing(CHAT);
        client.expect_nothing(WALLET);
    });
}

#[test]
fn transactions_are_told_and_paged() {
    everywhere(&[], |broker, transport| {
        let ada = &*name("ada", transport);
        let mut client = Mobile::enter(broker.public, transport, WALLET, ada);
        let mut publisher = broker.publisher();
        let line = |n: usize, more: &str| {
            let data = json!({ "id": format!("t{n}"), "amount": n, "note": more });
            json!({ "user": ada, "event": "transaction:added", "data": data })
        };
        for n in 0..5 {
            publisher.publish(line(n, "new"));
            assert_eq!(client.expect(WALLET, "transaction:added")["id"], format!("t{n}"));
        }
        // Said once more: in its place, as it was said last.
        publisher.publish(line(3, "more"));
        assert_eq!(client.expect(WALLET, "transaction:added")["note"], "more");
        let (mut path, mut seen) = ("/api/wallet/transactions?limit=2".to_owned(), Vec::new());
        loop {
            let page = get(broker.public, ada, &path);
            seen.extend(page["transactions"].as_array().unwrap().clone());
            let Some(before) = page["nextBefore"].as_str() else { break };
            path = format!("/api/wallet/transactions?limit=2&before={before}");
        }
        let expected: Vec<Value> =
            (0..5).rev().map(|n| line(n, if n == 3 { "more" } else { "new" })["data"].clone()).collect();
        assert_eq!(seen, expected);
        let response = rest(broker.public, ada, "GET", "/api/wallet/transactions?before=no", None);
        assert_eq!((response.status, response.code().as_str()), (404, "NOT_FOUND"));
    });
}

#[test]
fn a_users_events_keep_their_order_and_ids_count_once() {
    everywhere(&[], |broker, transport| {
        let ada = &*name("ada", transport);
        let mut client = Mobile::enter(broker.public, transport, WALLET, ada);
        let mut publisher = broker.publisher();
        let balance = |n: usize| json!({ "currency": "BTC", "balance": n });
        let mut lines = String::new();
        for n in 0..LINES {
            let kept = json!({ "id": format!("{ada}-{n}"), "user": ada, "event": "balance:updated", "data": balance(n) });
            let passed = json!({ "user": ada, "event": "wallet:updated", "data": { "n": n } });
            // The same id once more, at once.
            lines.push_str(&format!("{kept}\n{passed}\n{kept}\n"));
        }
        publisher.raw(lines.as_bytes());
        for n in 0..LINES {
            let id = format!("{ada}-{n}");
            let first = publisher.reply();
            assert_eq!(
                (&first["id"], &first["ok"], &first["subscribers"]),
                (&json!(id), &json!(true), &json!(1)),
                "{first}"
            );
            let second = publisher.reply();
            assert_eq!((&second["id"], &second["duplicate"]), (&json!(id), &json!(true)), "{second}");
            assert_eq!(second["offset"], first["offset"]);
        }
        for n in 0..LINES {
            assert_eq!(client.expect(WALLET, "balance:updated"), balance(n));
            assert_eq!(client.expect(WALLET, "wallet:updated"), json!({ "n": n }));
        }
        client.expect_nothing(WALLET);
        assert_eq!(get(broker.public, ada, "/api/wallet/balance")["balances"][0]["balance"], LINES - 1);
        // In one body of lines too; the last line of the answer is a summary.
        let line = |n: usize| json!({ "id": format!("{ada}-body-{n}"), "user": ada, "event": "balance:updated", "data": balance(n) });
        let body: String = (0..LINES).map(|n| format!("{}\n", line(n))).collect();
        let answer = request(broker.admin, "POST", "/publish", &[], body.as_bytes());
        assert_eq!((answer.status, answer.text().lines().count()), (200, LINES + 1), "{}", answer.text());
        // Later too, and another connection's.
        let line =
            json!({ "id": format!("{ada}-7"), "user": ada, "event": "balance:updated", "data": balance(7) });
        assert_eq!(broker.publisher().ask(line)["duplicate"], true);
        assert_eq!(get(broker.public, ada, "/api/wallet/balance")["balances"][0]["balance"], LINES - 1);
    });
}

#[test]
fn what_cannot_be_kept_is_answered_with_an_error() {
    everywhere(&[], |broker, transport| {
        let ada = &*name("ada", transport);
        let mut client = Mobile::enter(broker.public, transport, WALLET, ada);
        let mut publisher = broker.publisher();
        for (event, data) in [
            ("balance:updated", json!({ "currency": "BTC" })),
            ("balance:updated", json!({ "balance": 1 })),
            ("transaction:added", json!({ "amount": 1 })),
        ] {
            let answer = publisher.ask(json!({ "id": "bad", "user": ada, "event": event, "data": data }));
            assert_eq!(
                (&answer["ok"], &answer["error"]["code"]),
                (&json!(false), &json!("VALIDATION_ERROR")),
                "{answer}"
            );
        }
        // For another app it is an event like any other.
        let line = json!({ "user": ada, "app": "account", "event": "balance:updated", "data": {} });
        assert_eq!(publisher.publish(line)["subscribers"], 0);
        client.expect_nothing(WALLET);
    });
}

#[test]
fn a_body_of_lines_is_answered_when_all_is_durable() {
    everywhere(&[], |broker, transport| {
        let ada = &*name("ada", transport);
        let line = |n: usize| {
            let data = json!({ "id": format!("{n}") });
            json!({ "id": format!("{ada}-{n}"), "user": ada, "event": "transaction:added", "data": data })
        };
        let body: String = (0..20).map(|n| format!("{}\n", line(n))).collect();
        let response = crate::support::http::request(broker.admin, "POST", "/publish", &[], body.as_bytes());
        let text = response.text();
        assert_eq!((response.status, text.lines().count()), (200, 21), "{text}");
        let page = get(broker.public, ada, "/api/wallet/transactions?limit=100");
        assert_eq!(page["transactions"].as_array().unwrap().len(), 20);
        assert_eq!(page["transactions"][0]["id"], "19");
    });
}
