//! Which published events have not been received by all their subscribers:
//! a ring indexed by the event's number, O(1) for each delivery.

/// One published event.
#[derive(Clone, Copy, Default)]
pub struct Entry {
    /// When it was to be published, ns of the run's clock.
    pub published: u64,
    pub room: u32,
    /// Its place in its room, from 0.
    pub sequence: u32,
    /// Subscribers that have not received it.
    remaining: u32,
    /// How many events ago its room had the one before; 0: none is known.
    back: u32,
}

/// All events that can still be received.
///
/// Invariant: `outstanding` = entries with `remaining > 0` ≤ ring length.
pub struct Window {
    /// Number of the first event of this run; see [`Window::new`].
    first: u64,
    next: u64,
    outstanding: usize,
    ring: Vec<Entry>,
    /// For each room the number of its last event and how many it had.
    rooms: Vec<(u64, u32)>,
}

impl Window {
    /// `first` should differ from run to run, so that an event of an earlier
    /// run, which a server may keep as a room's newest value, is not taken for
    /// one of this run. `capacity` is rounded up to a power of two.
    pub fn new(first: u64, capacity: usize, rooms: usize) -> Self {
        let capacity = capacity.max(1024).next_power_of_two();
        Self {
            first,
            next: first,
            outstanding: 0,
            ring: vec![Entry::default(); capacity],
            rooms: vec![(0, 0); rooms],
        }
    }

    /// Events not yet received by all their subscribers.
    #[inline]
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Events published so far.
    pub fn published(&self) -> u64 {
        self.next - self.first
    }

    /// How many events a room had.
    pub fn published_to(&self, room: u32) -> u32 {
        self.rooms[room as usize].1
    }

    /// Notes a publication to a room with `subscribers`; returns its number,
    /// or `None` while the ring is full, as an event as old as the ring is
    /// long is still outstanding.
    pub fn publish(&mut self, room: u32, subscribers: u32, published: u64) -> Option<u64> {
        let number = self.next;
        let at = self.at(number);
        if self.ring[at].remaining > 0 {
            return None;
        }
        let (last, count) = &mut self.rooms[room as usize];
        let back = if *count == 0 { 0 } else { u32::try_from(number - *last).unwrap_or(0) };
        self.ring[at] = Entry { published, room, sequence: *count, remaining: subscribers, back };
        (*last, *count) = (number, *count + 1);
        self.outstanding += usize::from(subscribers > 0);
        self.next += 1;
        Some(number)
    }

    /// The event with this number, if it is of this run and not long ago.
    #[inline]
    pub fn entry(&self, number: u64) -> Option<&Entry> {
        let age = self.next.wrapping_sub(number);
        let known = number >= self.first && age >= 1 && age <= self.ring.len() as u64;
        known.then(|| &self.ring[self.at(number)])
    }

    /// Whether this number was given in this run, however long ago.
    pub fn is_own(&self, number: u64) -> bool {
        (self.first..self.next).contains(&number)
    }

    /// One subscriber has received the event, or never will.
    #[inline]
    pub fn settle(&mut self, number: u64) {
        let at = self.at(number);
        let remaining = &mut self.ring[at].remaining;
        if *remaining > 0 {
            *remaining -= 1;
            self.outstanding -= usize::from(*remaining == 0);
        }
    }

    /// The event before this one in the same room, if it is still in the ring.
    pub fn previous(&self, number: u64) -> Option<u64> {
        let back = self.entry(number)?.back;
        let previous = number.checked_sub(u64::from(back)).filter(|_| back > 0)?;
        self.entry(previous).map(|_| previous)
    }

    #[inline]
    fn at(&self, number: u64) -> usize {
        number as usize & (self.ring.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_outstanding_until_its_last_subscriber() {
        let mut window = Window::new(5_000, 8, 2);
        let first = window.publish(0, 2, 10).expect("room");
        let second = window.publish(1, 1, 11).expect("room");
        let third = window.publish(0, 0, 12).expect("room");
        assert_eq!((first, second, window.outstanding()), (5_000, 5_001, 2));
        window.settle(second);
        window.settle(second);
        assert_eq!(window.outstanding(), 1);
        window.settle(first);
        window.settle(first);
        assert_eq!((window.outstanding(), window.published()), (0, 3));
        assert_eq!(window.previous(third), Some(first));
        assert_eq!(window.previous(first), None);
        let entry = window.entry(third).expect("known");
        assert_eq!((entry.room, entry.sequence, entry.published), (0, 1, 12));
    }

    #[test]
    fn numbers_of_other_runs_are_unknown() {
        let mut window = Window::new(1_000_000, 8, 1);
        assert!(window.entry(1_000_000).is_none());
        window.publish(0, 1, 0).expect("room");
        assert!(window.entry(999_999).is_none());
        assert!(window.entry(1_000_000).is_some());
        assert!(window.entry(1_000_001).is_none());
        assert!(window.entry(0).is_none());
        assert!(window.entry(u64::MAX).is_none());
    }

    #[test]
    fn a_full_ring_waits_and_old_numbers_are_forgotten() {
        let mut window = Window::new(0, 1024, 1);
        let numbers: Vec<u64> = (0..1024).filter_map(|_| window.publish(0, 1, 0)).collect();
        assert_eq!(numbers.len(), 1024);
        assert_eq!(window.publish(0, 1, 0), None);
        window.settle(1);
        assert_eq!(window.publish(0, 1, 0), None, "the oldest is still outstanding");
        window.settle(0);
        assert_eq!(window.publish(0, 1, 0), Some(1024));
        assert!(window.entry(0).is_none() && window.is_own(0));
        assert!(window.entry(1).is_some());
    }
}
