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

/// Bytes of a piece of text in which words are looked for.
const PIECE: usize = 256;

/// Compiled once; the patterns are constants.
static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250})\.[A-Za-z]{2,24}"));
/// Thirteen to nineteen digits, with up to two spaces, hyphens or full stops between them; whether it is a card Luhn's sum
/// decides.
static CARD: LazyLock<Regex> = LazyLock::new(|| pattern(r"\d(?:[ .-]{0,2}\d){12,18}"));
/// With a country code, or in groups of three, three and four, or ten or eleven digits in a row.
static PHONE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\+\d(?:[ ().-]{0,2}\d){7,14}\b|(?:\b1[ .-])?(?:\(\d{3}\) ?|\b\d{3}[ .-])\d{3}[ .-]?\d{4}\b|\b\d{10,11}\b",
    )
});

#[expect(clippy::expect_used, reason = "the patterns are constants, and a test compiles each")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are constants that the tests compile")
}

/// The text with everything masked that the settings ask for, and whether anything was. Words and personal information are
/// looked for in the text as it came: the stars of the one must not hide the other.
pub fn filter<'t>(text: &'t str, settings: &FilterSettings) -> (Cow<'t, str>, bool) {
    let mut found = Vec::new();
    if settings.words {
        find_words(text, &mut found);
    }
    if settings.personal_information {
        // Most texts have nothing for a pattern, and looking for one takes as long as all else about a message.
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let mut personal = |range| found.push((range, Mask::LettersAndDigits));
        if digits >= *CARD_DIGITS.start() {
            let cards = CARD.find_iter(text).filter(|found| is_card(found.as_str()));
            cards.for_each(|card| personal(card.range()));
        }
        if text.contains('@') {
            EMAIL.find_iter(text).for_each(|email| personal(email.range()));
        }
        if digits >= PHONE_DIGITS {
            PHONE.find_iter(text).for_each(|phone| personal(phone.range()));
        }
    }
    if found.is_empty() {
        return (Cow::Borrowed(text), false);
    }
    let is_masked = |at: usize, letter: char| {
        found.iter().any(|(range, mask)| {
            range.contains(&at) && (*mask == Mask::Everything || letter.is_alphanumeric())
        })
    };
    let masked = text.char_indices().map(|(at, letter)| if is_masked(at, letter) { '*' } else { letter });
    (Cow::Owned(masked.collect()), true)
}

/// What of a place gets a `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mask {
    Everything,
    LettersAndDigits,
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

/// The inappropriate words. The library takes more than twice as long for twice the text, so it is given pieces.
fn find_words(text: &str, found: &mut Vec<(Range<usize>, Mask)>) {
    let mut at = 0;
    while at < text.len() {
        let end = end_of_piece(text, at);
        find_words_of(&text[at..end], at, found);
        at = end;
    }
}

/// Where a piece ends that begins at `at`: behind white space, if there is any in its second half.
fn end_of_piece(text: &str, at: usize) -> usize {
    let most = text.floor_char_boundary(at + PIECE);
    if most == text.len() {
        return most;
    }
    let half = text.floor_char_boundary(at + PIECE / 2);
    text[half..most].rfind(char::is_whitespace).map_or(most, |space| half + space)
}

/// Those of a piece, which stands at `at`.
fn find_words_of(text: &str, at: usize, found: &mut Vec<(Range<usize>, Mask)>) {
    // Digits are letters to the library (b0b), so that "bob 5" is a word to it. A number that stands alone is no part of one.
    let read = without_numbers(text);
    let mut censor = Censor::from_str(&read);
    censor
        .with_censor_threshold(Type::INAPPROPRIATE)
        .with_censor_first_character_threshold(Type::INAPPROPRIATE);
    let (censored, analysis) = censor.censor_and_analyze();
    if !analysis.is(Type::INAPPROPRIATE) || !censored.contains('*') {
        return;
    }
    // The library takes accents off all letters: only its stars are wanted.
    let stars: Vec<char> = censored.chars().collect();
    let letters: Vec<(usize, char)> = text.char_indices().collect();
    if stars.len() != letters.len() {
        return found.push((at..at + text.len(), Mask::LettersAndDigits));
    }
    let mut place = 0;
    while place < letters.len() {
        let run = stars[place..].iter().take_while(|star| **star == '*').count();
        let word = &letters[place..place + run];
        // It reads digits as letters, so that "30 on" is a word to it: what has next to no letters is none.
        let alphabetic = word.iter().filter(|(_, letter)| letter.is_alphabetic()).count();
        if alphabetic >= 3 || (alphabetic > 0 && !word.iter().any(|(_, letter)| letter.is_ascii_digit())) {
            let end = letters.get(place + run).map_or(text.len(), |(end, _)| *end);
            found.push((at + letters[place].0..at + end, Mask::Everything));
        }
        place += run.max(1);
    }
}

/// The text with a `.` for each digit of the numbers that stand alone; as long as before.
fn without_numbers(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Cow::Borrowed(text);
    }
    let mut read = String::with_capacity(text.len());
    for token in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let number = token.trim_end_matches(|c: char| !c.is_alphanumeric());
        match !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            true => {
                read.extend(std::iter::repeat_n('.', number.len()));
                read.push_str(&token[number.len()..]);
            }
            false => read.push_str(token),
        }
    }
    Cow::Owned(read)
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
    fn words_do_not_hide_what_stands_beside_them() {
        becomes("hi fuck 4111 1111 1111 1111", "hi **** **** **** **** ****");
        becomes("ass@example.com", "***@*******.***");
        becomes(
            "4111.1111.1111.1111 or 4111  1111  1111  1111",
            "****.****.****.**** or ****  ****  ****  ****",
        );
        becomes("4111111111111111x", "****************x");
    }

    #[test]
    fn long_texts_are_looked_through_in_pieces() {
        let words = "a word or two ".repeat(40);
        becomes(&format!("{words}fuck"), &format!("{words}****"));
        stays(&"ö".repeat(2_000));
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        stays("4111 1111 1111 1112 is no card");
        stays("see you at 12:30 on 2025-05-20, table 42");
        stays("price 61837.63, volume 8.17");
        stays("@ann is online");
        stays("bob 5, bob 6 and bob 15: 30 on each");
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
