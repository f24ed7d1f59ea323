//! What backends were answered, compared with what their events came to.

use std::collections::HashMap;

use serde_json::Value;

use crate::log::{Item, Log};
use crate::model::{ALL, Acknowledged, Published, Seen, user_source};
use crate::world::World;

/// Every line that is to be answered has been, in order, with the right offset and count.
pub fn check(world: &World, seen: &mut Seen) {
    let mut offsets = HashMap::<String, u64>::new();
    let offsets: Vec<u64> = world
        .published
        .iter()
        .map(|event| {
            let offset = offsets.entry(event.target.counted_as()).or_default();
            *offset += 1;
            *offset
        })
        .collect();
    // Who was away may have been told later, and was not counted then.
    let (mut told, mut told_later) = (HashMap::<u64, usize>::new(), HashMap::<u64, usize>::new());
    for client in &world.logs {
        let told = if client.was_cut { &mut told_later } else { &mut told };
        for (item, _) in &client.told {
            if let Item::Event(number) = item {
                *told.entry(*number).or_default() += 1;
            }
        }
    }
    for (receiver, expected) in &world.bodies {
        let result = receiver.try_recv().expect("a body is answered when all is at rest");
        assert_eq!(result.errors, 0, "{}", String::from_utf8_lossy(&result.replies));
        let replies: Vec<Value> = result
            .replies
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("answers are JSON"))
            .collect();
        assert_eq!(replies.len(), expected.len(), "answers {replies:?} to {expected:?}");
        for (reply, expected) in replies.iter().zip(expected) {
            match expected {
                Acknowledged::Operation => {}
                Acknowledged::Duplicate { id } => {
                    assert_eq!(
                        (reply["id"].as_str(), reply["duplicate"].as_bool()),
                        (Some(&**id), Some(true))
                    );
                }
                Acknowledged::Publish { id, position } => {
                    seen.acknowledged += 1;
                    assert_eq!(reply["id"].as_str(), Some(&**id), "{reply}");
                    assert_eq!(reply["offset"].as_u64(), Some(offsets[*position]), "{reply}");
                    let event = &world.published[*position];
                    if !event.is_latest {
                        let told = told.get(&event.number).copied().unwrap_or(0);
                        let later = told_later.get(&event.number).copied().unwrap_or(0);
                        let lost = might_have(world, event) + later + world.unanswered;
                        let count = reply["subscribers"].as_u64().expect("a count") as usize;
                        assert!(
                            (told..=told + lost).contains(&count),
                            "{reply}: {told} were told of {event:?}, {lost} have ended or were away that may have been"
                        );
                    }
                }
            }
        }
    }
}

/// How many clients have ended without being told of an event that might have been for them.
fn might_have(world: &World, event: &Published) -> usize {
    let is_lost = |(index, client): &(usize, &Log)| {
        (client.leaving || client.end.is_some())
            && event.is_for(*index, client)
            && !client.told.iter().any(|(item, _)| *item == Item::Event(event.number))
            && event.sources().iter().any(|source| {
                *source == ALL
                    || client.asked.contains_key(source)
                    || client.user.as_ref().is_some_and(|user| *source == user_source(user))
            })
    };
    world.logs.iter().enumerate().filter(is_lost).count()
}
