//! What bounds the identity provider: failures, the queue, the end.

use std::time::Duration;

use fanfare::app::rest::login::{LoginCall, LoginError};
use fanfare::login::QUEUE;
use fanfare::settings::Secret;

use crate::fixture::{EMAIL, PASSWORD, Provider, password, tokens};

const WRONG: &str = "wrong horse";

#[test]
fn five_failures_of_an_account_make_it_wait_even_with_the_right_password() {
    let mut provider = Provider::new();
    for _ in 0..5 {
        assert_eq!(provider.ask(password(EMAIL, WRONG)), Err(LoginError::Wrong));
    }
    let wait = Duration::from_secs(12);
    assert_eq!(provider.ask(password(EMAIL, PASSWORD)), Err(LoginError::TooMany(wait)));
    assert_eq!(provider.ask_from(password(EMAIL, PASSWORD), "10.0.0.9"), Err(LoginError::TooMany(wait)));
    assert_eq!(provider.login.passwords_checked(), 5);
    // Another account has its own count: the address is exempt.
    assert_eq!(provider.ask(password("bob@example.com", WRONG)), Err(LoginError::Wrong));
    provider.later(wait);
    provider.sign_in();
}

#[test]
fn an_account_that_does_not_exist_counts_as_one_that_does() {
    let mut provider = Provider::new();
    for _ in 0..5 {
        assert_eq!(provider.ask(password("nobody@example.com", WRONG)), Err(LoginError::Wrong));
    }
    let answer = provider.ask(password("Nobody@example.com", WRONG));
    assert_eq!(answer, Err(LoginError::TooMany(Duration::from_secs(12))));
}

#[test]
fn five_failures_of_an_address_make_it_wait_whoever_it_signs_in_as() {
    let mut provider = Provider::new();
    for user in 0..5 {
        let answer = provider.ask_from(password(&format!("{user}@example.com"), WRONG), "10.0.0.1");
        assert_eq!(answer, Err(LoginError::Wrong));
    }
    let answer = provider.ask_from(password(EMAIL, PASSWORD), "10.0.0.1");
    assert_eq!(answer, Err(LoginError::TooMany(Duration::from_secs(12))));
    tokens(provider.ask_from(password(EMAIL, PASSWORD), "10.0.0.2"));
}

#[test]
fn what_succeeds_does_not_count_and_the_limit_can_change() {
    let mut provider = Provider::new();
    for _ in 0..7 {
        tokens(provider.ask_from(password(EMAIL, PASSWORD), "10.0.0.1"));
    }
    provider.limits.login = None;
    provider.reload();
    for _ in 0..7 {
        assert_eq!(provider.ask_from(password(EMAIL, WRONG), "10.0.0.1"), Err(LoginError::Wrong));
    }
}

#[test]
fn the_queue_is_bounded_and_every_request_that_was_taken_is_answered() {
    let mut provider = Provider::stopped(|_, _| {});
    let call = || LoginCall::Refresh { token: Secret::new("x") };
    let mut taken: Vec<u64> = (0..QUEUE).map(|_| provider.send(call(), "10.0.0.1").unwrap()).collect();
    assert_eq!(provider.send(call(), "10.0.0.1"), Err(LoginError::Busy));
    provider.start();
    provider.stop();
    let mut answered: Vec<u64> = (0..QUEUE).map(|_| provider.next().0).collect();
    taken.sort_unstable();
    answered.sort_unstable();
    assert_eq!(taken, answered);
    assert_eq!(provider.send(call(), "10.0.0.1"), Err(LoginError::Busy));
}

#[test]
fn a_store_that_has_gone_is_no_failure_of_the_user() {
    let mut provider = Provider::new();
    provider.stop_store();
    for _ in 0..7 {
        assert_eq!(provider.ask_from(password(EMAIL, PASSWORD), "10.0.0.1"), Err(LoginError::Busy));
    }
}
