//! What each connection must receive next in each of its rooms: finds lost,
//! repeated and re-ordered events with one small counter per membership.

use std::collections::HashMap;

/// Gaps that are remembered, so that a late event is told from a repeated one.
/// Beyond it a late event counts as a repeated one.
const REMEMBERED_GAPS: usize = 1_000_000;

/// What an event turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next one.
    Next,
    /// So many before it are missing.
    Ahead(u32),
    /// One of the missing, late.
    Late,
    /// Received before.
    Repeated,
    /// The connection is not in that room.
    Stranger,
}

/// The shadow counts of all connections.
pub struct Expected {
    /// Rooms of connection `c` are at `c * each ..`.
    rooms: Vec<u32>,
    next: Vec<u32>,
    each: usize,
    /// For a membership the ranges that were skipped.
    gaps: HashMap<usize, Vec<(u32, u32)>>,
    remembered: usize,
}

impl Expected {
    /// `rooms` lists the rooms of each connection, `each` for each.
    pub fn new(rooms: Vec<u32>, each: usize) -> Self {
        Self { next: vec![0; rooms.len()], rooms, each: each.max(1), gaps: HashMap::new(), remembered: 0 }
    }

    /// The rooms of a connection.
    pub fn rooms_of(&self, connection: usize) -> &[u32] {
        &self.rooms[connection * self.each..][..self.each]
    }

    /// Judges the event with place `sequence` in `room`.
    #[inline]
    pub fn observe(&mut self, connection: usize, room: u32, sequence: u32) -> Verdict {
        let first = connection * self.each;
        let Some(index) = self.rooms[first..first + self.each].iter().position(|own| *own == room) else {
            return Verdict::Stranger;
        };
        let next = &mut self.next[first + index];
        if sequence == *next {
            *next += 1;
            return Verdict::Next;
        }
        self.out_of_order(first + index, sequence)
    }

    #[cold]
    fn out_of_order(&mut self, membership: usize, sequence: u32) -> Verdict {
        let next = &mut self.next[membership];
        if sequence > *next {
            let missing = sequence - *next;
            if self.remembered < REMEMBERED_GAPS {
                self.gaps.entry(membership).or_default().push((*next, sequence));
                self.remembered += 1;
            }
            *next = sequence + 1;
            return Verdict::Ahead(missing);
        }
        let Some(gaps) = self.gaps.get_mut(&membership) else { return Verdict::Repeated };
        let Some(index) = gaps.iter().position(|(from, to)| (*from..*to).contains(&sequence)) else {
            return Verdict::Repeated;
        };
        let (from, to) = gaps.swap_remove(index);
        gaps.extend([(from, sequence), (sequence + 1, to)].iter().filter(|(from, to)| from < to));
        Verdict::Late
    }

    /// Events that a connection's rooms had and that have not come at its end.
    pub fn behind(&self, connection: usize, published_to: impl Fn(u32) -> u32) -> u64 {
        let first = connection * self.each;
        (first..first + self.each)
            .map(|index| u64::from(published_to(self.rooms[index]).saturating_sub(self.next[index])))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_late_from_repeated() {
        let mut expected = Expected::new(vec![3, 4, 3, 9], 2);
        assert_eq!(expected.observe(0, 3, 0), Verdict::Next);
        assert_eq!(expected.observe(0, 3, 0), Verdict::Repeated);
        assert_eq!(expected.observe(0, 3, 4), Verdict::Ahead(3));
        assert_eq!(expected.observe(0, 3, 2), Verdict::Late);
        assert_eq!(expected.observe(0, 3, 2), Verdict::Repeated);
        assert_eq!(expected.observe(0, 3, 3), Verdict::Late);
        assert_eq!(expected.observe(0, 3, 1), Verdict::Late);
        assert_eq!(expected.observe(0, 3, 1), Verdict::Repeated);
        assert_eq!(expected.observe(0, 3, 5), Verdict::Next);
        assert_eq!(expected.observe(0, 9, 0), Verdict::Stranger);
        assert_eq!(expected.observe(1, 9, 0), Verdict::Next);
        assert_eq!(expected.behind(1, |room| if room == 3 { 6 } else { 1 }), 6);
        assert_eq!(expected.behind(0, |_| 6), 6);
    }
}
