//! What is subscribed and published: the named workloads, and the rooms of
//! each connection.

use clap::ValueEnum;

use super::zipf::{Random, Zipf};

/// The workloads of the performance contract that fan out.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Named {
    /// 1 room, 1,000 subscribers, one event at a time
    #[value(name = "A", alias = "a")]
    A,
    /// A with 64 events outstanding
    #[value(name = "B", alias = "b")]
    B,
    /// 1 room, 10,000 subscribers, one event at a time
    #[value(name = "C", alias = "c")]
    C,
    /// C with 16 events outstanding
    #[value(name = "D", alias = "d")]
    D,
    /// 10,000 connections in 5 of 1,000 rooms each, 256 events outstanding
    #[value(name = "E", alias = "e")]
    E,
    /// 10,000 private rooms, 1,000 events outstanding
    #[value(name = "F", alias = "f")]
    F,
    /// 10,000 private rooms, 50,000 events/s
    #[value(name = "G", alias = "g")]
    G,
    /// 1 room, 1,000 subscribers, 2,000 events/s
    #[value(name = "P", alias = "p")]
    P,
}

/// When the next event is published.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pressure {
    /// Whenever fewer than this many events are outstanding.
    Window(usize),
    /// So many a second, whatever happens.
    Rate(f64),
}

/// One workload in full.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Workload {
    pub connections: usize,
    pub rooms: usize,
    pub rooms_per_connection: usize,
    /// Skew of the rooms that connections choose; `None`: in turn.
    pub zipf: Option<f64>,
    /// Skew of the rooms that are published to; 0: all in turn.
    pub publish_zipf: f64,
    pub pressure: Pressure,
}

impl Named {
    /// Its numbers.
    pub fn workload(self) -> Workload {
        use Pressure::{Rate, Window};
        let (connections, rooms, rooms_per_connection, zipf, pressure) = match self {
            Named::A => (1_000, 1, 1, None, Window(1)),
            Named::B => (1_000, 1, 1, None, Window(64)),
            Named::C => (10_000, 1, 1, None, Window(1)),
            Named::D => (10_000, 1, 1, None, Window(16)),
            Named::E => (10_000, 1_000, 5, Some(1.0), Window(256)),
            Named::F => (10_000, 10_000, 1, None, Window(1_000)),
            Named::G => (10_000, 10_000, 1, None, Rate(50_000.0)),
            Named::P => (1_000, 1, 1, None, Rate(2_000.0)),
        };
        Workload { connections, rooms, rooms_per_connection, zipf, publish_zipf: 0.0, pressure }
    }
}

impl Workload {
    /// The rooms of all connections, `rooms_per_connection` for each, all
    /// different within a connection. As many rooms as connections and no skew
    /// make the rooms private.
    pub fn memberships(&self, random: &mut Random) -> Vec<u32> {
        let each = self.rooms_per_connection;
        let mut rooms = Vec::with_capacity(self.connections * each);
        let zipf = self.zipf.map(|skew| Zipf::new(self.rooms, skew));
        for connection in 0..self.connections {
            let start = rooms.len();
            for index in 0..each {
                let mut room = match &zipf {
                    Some(zipf) => zipf.sample(random) as u32,
                    None => ((connection * each + index) % self.rooms) as u32,
                };
                // After many tries the next free room: a steep skew hardly ever
                // gives the rare ones.
                let mut tries = 0;
                while rooms[start..].contains(&room) {
                    tries += 1;
                    room = match &zipf {
                        Some(zipf) if tries < 100 => zipf.sample(random) as u32,
                        _ => (room + 1) % self.rooms as u32,
                    };
                }
                rooms.push(room);
            }
        }
        rooms
    }

    /// Says what makes no sense, if anything.
    pub fn check(&self) -> Result<(), String> {
        if self.connections == 0 || self.rooms == 0 || self.rooms_per_connection == 0 {
            return Err("--connections, --rooms and --rooms-per-connection must be at least 1".to_owned());
        }
        if self.rooms_per_connection > self.rooms {
            return Err(format!(
                "--rooms-per-connection {} is more than --rooms {}",
                self.rooms_per_connection, self.rooms
            ));
        }
        match self.pressure {
            Pressure::Window(0) => Err("--window must be at least 1".to_owned()),
            Pressure::Rate(rate) if !(rate > 0.0 && rate <= 10e6) => {
                Err("--rate must be above 0 and at most 10 million".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// In which order rooms are published to.
pub struct Schedule {
    /// Rooms with subscribers, in random order.
    rooms: Vec<u32>,
    zipf: Option<Zipf>,
    position: usize,
}

impl Schedule {
    /// Only rooms with `subscribers` are published to.
    pub fn new(subscribers: &[u32], skew: f64, random: &mut Random) -> Self {
        let mut rooms: Vec<u32> =
            (0..subscribers.len() as u32).filter(|room| subscribers[*room as usize] > 0).collect();
        let zipf = (skew > 0.0 && !rooms.is_empty()).then(|| Zipf::new(rooms.len(), skew));
        if zipf.is_none() {
            random.shuffle(&mut rooms);
        }
        Self { rooms, zipf, position: 0 }
    }

    /// The room of the next event; `None` if no room has subscribers.
    pub fn next(&mut self, random: &mut Random) -> Option<u32> {
        if let Some(zipf) = &self.zipf {
            return self.rooms.get(zipf.sample(random)).copied();
        }
        let room = *self.rooms.get(self.position)?;
        self.position = (self.position + 1) % self.rooms.len();
        Some(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_workloads_make_sense() {
        for named in Named::value_variants() {
            let workload = named.workload();
            workload.check().expect("valid");
            let rooms = workload.memberships(&mut Random::new(1));
            assert_eq!(rooms.len(), workload.connections * workload.rooms_per_connection);
            for own in rooms.chunks(workload.rooms_per_connection) {
                assert!(own.iter().enumerate().all(|(index, room)| !own[..index].contains(room)));
            }
        }
        let private = Named::F.workload().memberships(&mut Random::new(1));
        assert!(private.iter().enumerate().all(|(connection, room)| connection == *room as usize));
    }

    #[test]
    fn a_connection_can_be_in_all_rooms_whatever_the_skew() {
        let workload = Workload { rooms: 5, connections: 3, zipf: Some(4.0), ..Named::E.workload() };
        let mut rooms = workload.memberships(&mut Random::new(3));
        rooms[..5].sort_unstable();
        assert_eq!(rooms[..5], [0, 1, 2, 3, 4]);
    }

    #[test]
    fn only_rooms_with_subscribers_have_turns() {
        let mut random = Random::new(2);
        let mut schedule = Schedule::new(&[1, 0, 3], 0.0, &mut random);
        let mut rooms: Vec<u32> = (0..4).filter_map(|_| schedule.next(&mut random)).collect();
        rooms.sort_unstable();
        assert_eq!(rooms, [0, 0, 2, 2]);
        assert_eq!(Schedule::new(&[0], 1.0, &mut random).next(&mut random), None);
    }
}
