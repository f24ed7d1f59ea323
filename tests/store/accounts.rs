//! The identity provider's users and refresh tokens.

use fanfare::record::{
    Account, Answer, NewAccount, NewRefreshToken, Query, Refreshed, Refusal, TokenFault, TokenHash, Write,
};
use fanfare::settings::Secret;
use fanfare::store::Database;
use uuid::Uuid;

use crate::fixture::{Directory, Fixture, START};

const DAY: u64 = 86_400_000;

fn new_account(id: &str, email: &str) -> NewAccount {
    NewAccount {
        id: id.into(),
        email: email.into(),
        password_hash: Secret::new("$argon2id$first"),
        username: id.into(),
        roles: r#"["agent"]"#.into(),
    }
}

fn add(store: &mut Fixture, id: &str, email: &str) -> Result<Account, Refusal> {
    account(store.write(Write::AddAccount(new_account(id, email))))
}

fn account(answer: Result<Answer, Refusal>) -> Result<Account, Refusal> {
    match answer? {
        Answer::Account(account) => Ok(*account),
        other => panic!("{other:?}"),
    }
}

fn found(store: &mut Fixture, email: &str) -> Option<Account> {
    match store.read(Query::AccountByEmail { email: email.into() }).unwrap() {
        Answer::FoundAccount(account) => account.map(|account| *account),
        other => panic!("{other:?}"),
    }
}

fn token(number: u8) -> TokenHash {
    TokenHash([number; 32])
}

/// Keeps a token for thirty days.
fn save(
    store: &mut Fixture,
    number: u8,
    family: Uuid,
    user: &str,
    claims: Option<&str>,
) -> Result<Answer, Refusal> {
    store.write(Write::SaveRefreshToken(NewRefreshToken {
        token: token(number),
        family,
        user: user.into(),
        claims: claims.map(Box::from),
        expires_at: START + 30 * DAY,
    }))
}

fn present(store: &mut Fixture, number: u8, replacement: Option<u8>) -> Result<Refreshed, Refusal> {
    let replacement = replacement.map(|number| (token(number), START + 60 * DAY));
    match store.write(Write::UseRefreshToken { token: token(number), replacement })? {
        Answer::Refreshed(refreshed) => Ok(*refreshed),
        other => panic!("{other:?}"),
    }
}

fn fault<T>(fault: TokenFault) -> Result<T, Refusal> {
    Err(Refusal::Token(fault))
}

#[test]
fn an_address_is_one_users_in_whatever_case() {
    let mut store = Fixture::new();
    let added = add(&mut store, "u-1", " Änne@Example.com ").unwrap();
    assert_eq!((&*added.email, added.disabled), ("Änne@Example.com", false));
    assert_eq!((added.created_at, added.updated_at), (store.now, store.now));
    assert_eq!(add(&mut store, "u-2", "äNNE@example.COM"), Err(Refusal::EmailTaken));
    let same_id = add(&mut store, "u-1", "other@example.com");
    assert!(matches!(same_id, Err(Refusal::Invalid { field: "id", .. })));
    assert_eq!(found(&mut store, "ÄNNE@EXAMPLE.COM"), Some(added.clone()));
    assert_eq!(found(&mut store, "nobody@example.com"), None);
    store.restart();
    assert_eq!(found(&mut store, "änne@example.com"), Some(added));
}

#[test]
fn users_are_listed_changed_and_removed() {
    let mut store = Fixture::new();
    for (id, email) in [("u-3", "c@x.org"), ("u-1", "A@x.org"), ("u-2", "b@x.org")] {
        add(&mut store, id, email).unwrap();
    }
    let list = |store: &mut Fixture, after: &str, limit| -> Vec<String> {
        match store.read(Query::Accounts { after: after.into(), limit }).unwrap() {
            Answer::Accounts(accounts) => accounts.iter().map(|account| account.email.to_string()).collect(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&mut store, "", 2), ["A@x.org", "b@x.org"]);
    assert_eq!(list(&mut store, "B@X.org", 2), ["c@x.org"]);

    let password_hash = Secret::new("$argon2id$second");
    let changed =
        account(store.write(Write::SetPassword { email: "a@X.ORG".into(), password_hash })).unwrap();
    assert_eq!((changed.password_hash.expose(), changed.updated_at), ("$argon2id$second", store.now));
    let set = |disabled| Write::SetDisabled { email: "a@x.org".into(), disabled };
    assert!(account(store.write(set(true))).unwrap().disabled);
    assert!(!account(store.write(set(false))).unwrap().disabled);

    let remove = |email: &str| Write::RemoveAccount { email: email.into() };
    assert_eq!(&*account(store.write(remove("a@x.org"))).unwrap().id, "u-1");
    let nobody = Err(Refusal::NotFound("user"));
    assert_eq!(account(store.write(remove("a@x.org"))), nobody);
    let password_hash = Secret::new("x");
    assert_eq!(account(store.write(Write::SetPassword { email: "a@x.org".into(), password_hash })), nobody);
    assert_eq!(account(store.write(set(true))), nobody);
    assert_eq!(list(&mut store, "", 10), ["b@x.org", "c@x.org"]);
    add(&mut store, "u-4", "a@x.org").unwrap();
}

#[test]
fn secrets_are_not_printed() {
    let mut store = Fixture::new();
    let added = add(&mut store, "u-1", "a@x.org").unwrap();
    let shown = format!("{added:?} {:?} {:?}", new_account("u-1", "a@x.org"), token(77));
    assert!(!shown.contains("argon2id") && !shown.contains("77, 77"), "{shown}");
}

#[test]
fn without_rotation_a_refresh_token_is_good_until_it_ends() {
    let mut store = Fixture::new();
    let account = add(&mut store, "u-1", "a@x.org").unwrap();
    let family = Uuid::now_v7();
    assert_eq!(save(&mut store, 1, family, "u-1", None), Ok(Answer::Done));
    let good = Refreshed {
        user: "u-1".into(),
        family,
        claims: None,
        expires_at: START + 30 * DAY,
        account: Some(account),
    };
    for _ in 0..3 {
        assert_eq!(present(&mut store, 1, None), Ok(good.clone()));
    }
    assert_eq!(present(&mut store, 2, None), fault(TokenFault::Unknown));
    store.restart();
    store.now = START + 30 * DAY - 2;
    assert_eq!(present(&mut store, 1, None), Ok(good));
    assert_eq!(present(&mut store, 1, None), fault(TokenFault::Expired));
}

#[test]
fn with_rotation_a_used_token_that_comes_again_ends_its_family() {
    let mut store = Fixture::new();
    add(&mut store, "u-1", "a@x.org").unwrap();
    let (family, other) = (Uuid::now_v7(), Uuid::now_v7());
    save(&mut store, 1, family, "u-1", None).unwrap();
    save(&mut store, 101, other, "u-1", None).unwrap();
    let refreshed = present(&mut store, 1, Some(2)).unwrap();
    assert_eq!((refreshed.family, refreshed.expires_at), (family, START + 60 * DAY));
    present(&mut store, 2, Some(3)).unwrap();
    assert_eq!(present(&mut store, 2, Some(4)), fault(TokenFault::Reused));
    assert_eq!(
        present(&mut store, 4, Some(5)),
        fault(TokenFault::Unknown),
        "what the thief asked for is not there"
    );
    for number in [1, 2, 3] {
        assert_eq!(present(&mut store, number, Some(6)), fault(TokenFault::Revoked));
    }
    store.restart();
    assert_eq!(present(&mut store, 3, None), fault(TokenFault::Revoked));
    assert!(present(&mut store, 101, Some(102)).is_ok(), "another sign-in goes on");
}

#[test]
fn rotation_that_is_switched_on_or_off_later_accuses_nobody() {
    let mut store = Fixture::new();
    add(&mut store, "u-1", "a@x.org").unwrap();
    save(&mut store, 1, Uuid::now_v7(), "u-1", None).unwrap();
    present(&mut store, 1, None).unwrap();
    present(&mut store, 1, None).unwrap();
    assert!(present(&mut store, 1, Some(2)).is_ok(), "used often, but never replaced");
    assert!(present(&mut store, 2, None).is_ok());
    assert_eq!(present(&mut store, 1, None), fault(TokenFault::Reused), "replaced is replaced");
}

#[test]
fn who_may_not_sign_in_may_not_refresh() {
    let mut store = Fixture::new();
    let email = || "a@x.org".into();
    let family = Uuid::now_v7();
    add(&mut store, "u-1", "a@x.org").unwrap();
    save(&mut store, 1, family, "u-1", None).unwrap();
    assert_eq!(store.write(Write::RevokeFamily { family }), Ok(Answer::Done));
    assert_eq!(present(&mut store, 1, None), fault(TokenFault::Revoked));

    save(&mut store, 2, Uuid::now_v7(), "u-1", None).unwrap();
    store.write(Write::SetPassword { email: email(), password_hash: Secret::new("new") }).unwrap();
    assert_eq!(present(&mut store, 2, None), fault(TokenFault::Revoked), "the password was changed");

    save(&mut store, 3, Uuid::now_v7(), "u-1", None).unwrap();
    store.write(Write::SetDisabled { email: email(), disabled: true }).unwrap();
    assert_eq!(present(&mut store, 3, None), fault(TokenFault::Revoked));
    let late = save(&mut store, 4, Uuid::now_v7(), "u-1", None);
    assert_eq!(late, fault(TokenFault::Disabled), "disabled while the password was checked");
    store.write(Write::SetDisabled { email: email(), disabled: false }).unwrap();
    assert_eq!(present(&mut store, 3, None), fault(TokenFault::Revoked), "that does not come back");

    save(&mut store, 5, Uuid::now_v7(), "u-1", None).unwrap();
    store.write(Write::RemoveAccount { email: email() }).unwrap();
    assert_eq!(present(&mut store, 5, None), fault(TokenFault::Unknown));
    let late = save(&mut store, 6, Uuid::now_v7(), "u-1", None);
    assert_eq!(late, Err(Refusal::NotFound("user")), "removed while the password was checked");
}

#[test]
fn users_of_another_provider_need_no_account() {
    let mut store = Fixture::new();
    let family = Uuid::now_v7();
    save(&mut store, 1, family, "did:privy:1", Some(r#"{"username":"Zoe"}"#)).unwrap();
    let refreshed = present(&mut store, 1, Some(2)).unwrap();
    assert_eq!(
        (&*refreshed.user, refreshed.claims.as_deref()),
        ("did:privy:1", Some(r#"{"username":"Zoe"}"#))
    );
    assert_eq!(refreshed.account, None);
    assert_eq!(present(&mut store, 2, None).unwrap().claims, refreshed.claims, "they go with the next one");
}

#[test]
fn tokens_that_ended_are_swept_out() {
    let mut store = Fixture::new();
    for number in 0..40 {
        save(&mut store, number, Uuid::now_v7(), "zoe", Some("{}")).unwrap();
    }
    store.now = START + 31 * DAY;
    assert_eq!(present(&mut store, 0, None), fault(TokenFault::Expired));
    for number in 40..43 {
        save(&mut store, number, Uuid::now_v7(), "zoe", Some("{}")).unwrap();
    }
    for number in 0..40 {
        assert_eq!(present(&mut store, number, None), fault(TokenFault::Unknown));
    }
}

/// `fanfare user add` works on the file while the server has it open.
#[test]
fn another_connection_may_write_meanwhile() {
    let directory = Directory::new();
    let mut store = Fixture::at(&directory.file());
    add(&mut store, "u-1", "a@x.org").unwrap();
    let mut database = Database::open(&directory.file()).unwrap();
    database.write(START, &Write::AddAccount(new_account("u-2", "b@x.org"))).unwrap();
    assert!(found(&mut store, "b@x.org").is_some());
    assert_eq!(add(&mut store, "u-3", "b@x.org"), Err(Refusal::EmailTaken));
    let seen = database.read(&Query::AccountByEmail { email: "a@x.org".into() }).unwrap();
    assert!(matches!(seen, Answer::FoundAccount(Some(_))));
}
