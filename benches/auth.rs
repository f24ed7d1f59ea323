//! What verifying a token costs at a handshake; the target is 3 µs for HS256.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use fanfare::auth::{Claims, Verifier};
use fanfare::settings::{AuthSettings, Secret};
use serde_json::json;

const NOW: u64 = 1_750_000_000;

fn verify(criterion: &mut Criterion) {
    let settings =
        AuthSettings { secret: Secret::new("0123456789abcdef0123456789abcdef"), ..AuthSettings::default() };
    let verifier = Verifier::new(&settings).expect("a key");
    let mut measure = |name: &str, more: serde_json::Value| {
        let more = more.as_object().expect("an object").clone();
        let claims = Claims { sub: "1234567".to_owned(), exp: NOW + 900, more };
        let token = verifier.sign(&claims).expect("signed");
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| verifier.verify(black_box(&token), NOW).expect("good"));
        });
    };
    measure("auth/verify HS256", json!({"iat": NOW, "iss": "https://id.example.com", "jti": "7f3a90c1"}));
    measure(
        "auth/verify HS256, all claims",
        json!({
            "iat": NOW, "iss": "https://id.example.com", "aud": ["feed", "chat"], "username": "ann",
            "avatar_url": "https://cdn.example.com/avatars/ann.png", "roles": ["agent"],
            "rooms": ["user:bob", "news:*"],
        }),
    );
}

criterion_group!(benches, verify);
criterion_main!(benches);
