//! Refresh tokens (`spec/decisions.md` 1): re-usable until they end, or rotating.

use std::time::Duration;

use fanfare::app::rest::login::LoginError;
use fanfare::record::{TokenFault, Write};
use fanfare::settings::Secret;

use crate::fixture::{EMAIL, Provider, tokens};

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_refresh_token_is_good_again_and_again_until_it_ends() {
    let mut provider = Provider::new();
    let first = provider.sign_in();
    for _ in 0..2 {
        provider.later(10 * DAY);
        let next = tokens(provider.refresh(&first.refresh));
        assert_eq!(next.refresh, first.refresh);
        assert_eq!(next.expires_in, 900);
        let identity = provider.identity(&next.access);
        assert_eq!(&*identity.user, "ann-1");
        assert!(identity.is_agent());
    }
    provider.later(10 * DAY);
    let over = provider.refresh(&first.refresh);
    assert_eq!(over, Err(LoginError::Refresh(TokenFault::Expired)));
}

#[test]
fn a_rotating_token_is_good_once_and_its_second_use_ends_the_family() {
    let mut provider = Provider::with(|auth, _| auth.rotate_refresh = true);
    let first = provider.sign_in();
    let other_family = provider.sign_in();
    let second = tokens(provider.refresh(&first.refresh));
    assert_ne!(second.refresh, first.refresh);
    let third = tokens(provider.refresh(&second.refresh));
    assert_eq!(provider.refresh(&first.refresh), Err(LoginError::Refresh(TokenFault::Reused)));
    assert_eq!(provider.refresh(&third.refresh), Err(LoginError::Refresh(TokenFault::Revoked)));
    tokens(provider.refresh(&other_family.refresh));
}

#[test]
fn a_rotating_token_begins_its_time_anew() {
    let mut provider = Provider::with(|auth, _| auth.rotate_refresh = true);
    let mut refresh = provider.sign_in().refresh;
    for _ in 0..3 {
        provider.later(20 * DAY);
        refresh = tokens(provider.refresh(&refresh)).refresh;
    }
    provider.later(30 * DAY);
    assert_eq!(provider.refresh(&refresh), Err(LoginError::Refresh(TokenFault::Expired)));
}

#[test]
fn who_is_disabled_or_has_a_new_password_must_sign_in_again() {
    let mut provider = Provider::new();
    let refresh = provider.sign_in().refresh;
    provider.change(&Write::SetDisabled { email: EMAIL.into(), disabled: true });
    assert!(matches!(provider.refresh(&refresh), Err(LoginError::Refresh(_))));
    provider.change(&Write::SetDisabled { email: EMAIL.into(), disabled: false });
    assert_eq!(provider.refresh(&refresh), Err(LoginError::Refresh(TokenFault::Revoked)));
    let refresh = provider.sign_in().refresh;
    let password_hash = fanfare::auth::password::hash("another password").unwrap();
    provider.change(&Write::SetPassword { email: EMAIL.into(), password_hash });
    assert_eq!(provider.refresh(&refresh), Err(LoginError::Refresh(TokenFault::Revoked)));
}

#[test]
fn what_is_no_refresh_token_is_not_known() {
    let mut provider = Provider::new();
    let access = provider.sign_in().access;
    for wrong in [access, Secret::new(""), Secret::new("A".repeat(43))] {
        assert_eq!(provider.refresh(&wrong), Err(LoginError::Refresh(TokenFault::Unknown)));
    }
}
