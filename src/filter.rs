//! What is masked in chat messages (`spec/conversation.md`, "Safety"): inappropriate words, by the word lists of `rustrict`,
//! and personal information: e-mail addresses, telephone numbers, payment card numbers.
//!
//! Pure: text in, text out. It must not know messages, users or whether a text is encrypted. Rank 2.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use regex_lite::Regex;
use rustrict::{Censor, Type};

use crate::settings::FilterSettings;

/// Digits of a payment card number (ISO/IEC 7812).
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Fewest digits that [`PHONE`] finds: those of a short number with its country code.
const PHONE_DIGITS: usize = 8;

/// Compiled once; the patterns are constants.
static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250})\.[A-Za-z]{2,24}"));
/// Thirteen to nineteen digits, single spaces or hyphens between them; whether it is a card Luhn's sum decides.
static CARD: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\d(?:[ -]?\d){12,18}\b"));
/// With a country code, or in groups of three, three and four, or ten or eleven digits in a row.
static PHONE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\+\d(?:[ ().-]{0,2}\d){7,14}\b|(?:\b1[ .-])?(?:\(\d{3}\) ?|\b\d{3}[ .-])\d{3}[ .-]?\d{4}\b|\b\d{10,11}\b",
    )
});

#[expect(clippy::expect_used, reason = "the patterns are constants, and a test compiles each")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern")
}

/// The text with everything masked that the settings ask for, and whether anything was.
pub fn filter<'t>(text: &'t str, settings: &FilterSettings) -> (Cow<'t, str>, bool) {
    let mut masked = Cow::Borrowed(text);
    if settings.words
        && let Some(clean) = without_words(text)
    {
        masked = Cow::Owned(clean);
    }
    if settings.personal_information {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        // Most texts have nothing for a pattern, and looking for one takes as long as all else about a message.
        // Cards first: the digits of one would pass for a telephone number.
        if digits >= *CARD_DIGITS.start() {
            mask(&mut masked, &CARD, is_card);
        }
        if text.contains('@') {
            mask(&mut masked, &EMAIL, |_| true);
        }
        if digits >= PHONE_DIGITS {
            mask(&mut masked, &PHONE, |_| true);
        }
    }
    let is_masked = matches!(masked, Cow::Owned(_));
    (masked, is_masked)
}

/// Puts a `*` for every letter and digit of what the pattern finds.
fn mask(text: &mut Cow<'_, str>, pattern: &Regex, is_meant: impl Fn(&str) -> bool) {
    let found: Vec<Range<usize>> =
        pattern.find_iter(text).filter(|found| is_meant(found.as_str())).map(|found| found.range()).collect();
    if found.is_empty() {
        return;
    }
    let text = text.to_mut();
    for range in found.into_iter().rev() {
        let stars: String = text[range.clone()]
            .chars()
            .map(|letter| if letter.is_alphanumeric() { '*' } else { letter })
            .collect();
        text.replace_range(range, &stars);
    }
}

/// Luhn's sum over the digits (ISO/IEC 7812-1, annex B).
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(10)).collect();
    let weigh = |(place, digit): (usize, &u32)| match (place % 2, digit * 2) {
        (0, _) => *digit,
        (_, doubled) if doubled > 9 => doubled - 9,
        (_, doubled) => doubled,
    };
    let sum: u32 = digits.iter().rev().enumerate().map(weigh).sum();
    CARD_DIGITS.contains(&digits.len()) && sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

/// The text with inappropriate words masked; `None`: there are none.
fn without_words(text: &str) -> Option<String> {
    let mut censor = Censor::from_str(text);
    censor
        .with_censor_threshold(Type::INAPPROPRIATE)
        .with_censor_first_character_threshold(Type::INAPPROPRIATE);
    let (censored, found) = censor.censor_and_analyze();
    if !found.is(Type::INAPPROPRIATE) || !censored.contains('*') {
        return None;
    }
    if censored.chars().count() != text.chars().count() {
        return Some(censored);
    }
    // The library takes accents off all letters: only its stars are wanted. And it reads digits as letters, so that "30 on"
    // is a word to it: what has next to no letters is none.
    let (letters, stars): (Vec<char>, Vec<char>) = (text.chars().collect(), censored.chars().collect());
    let mut masked = letters.clone();
    let mut at = 0;
    while at < letters.len() {
        let run = stars[at..].iter().take_while(|star| **star == '*').count();
        let word = &letters[at..at + run];
        let alphabetic = word.iter().filter(|letter| letter.is_alphabetic()).count();
        if alphabetic >= 3 || (alphabetic > 0 && !word.iter().any(char::is_ascii_digit)) {
            masked[at..at + run].fill('*');
        }
        at += run.max(1);
    }
    (masked != letters).then(|| masked.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(text: &str) -> (String, bool) {
        let (text, is_masked) = filter(text, &FilterSettings::default());
        (text.into_owned(), is_masked)
    }

    fn stays(text: &str) {
        assert_eq!(filtered(text), (text.to_owned(), false));
    }

    fn becomes(text: &str, expected: &str) {
        assert_eq!(filtered(text), (expected.to_owned(), true));
    }

    #[test]
    fn personal_information_is_masked() {
        becomes("write to ann.smith+x@mail.example.com!", "write to ***.*****+*@****.*******.***!");
        becomes("call +1 (415) 555-2671 now", "call +* (***) ***-**** now");
        becomes("or 415-555-2671", "or ***-***-****");
        becomes("at +1 234 5678", "at +* *** ****");
        becomes("card 4111 1111 1111 1111.", "card **** **** **** ****.");
        becomes("5555-5555-5555-4444", "****-****-****-****");
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        stays("4111 1111 1111 1112 is no card");
        stays("see you at 12:30 on 2025-05-20, table 42");
        stays("price 61837.63, volume 8.17");
        stays("@ann is online");
    }

    #[test]
    fn inappropriate_words_are_masked_and_the_rest_stays_as_it_was() {
        let (text, is_masked) = filtered("café, what the fuck, naïve");
        assert!(is_masked);
        assert_eq!(text, "café, what the ****, naïve");
        stays("The class assessed the Scunthorpe bass");
        stays("Grüße, 你好, привет, 🎉");
    }

    #[test]
    fn both_can_be_switched_off() {
        let off = FilterSettings { words: false, personal_information: false };
        let text = "fuck a@example.com";
        assert_eq!(filter(text, &off), (Cow::Borrowed(text), false));
    }
}
