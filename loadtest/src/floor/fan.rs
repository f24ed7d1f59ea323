//! Rooms and the fan-out itself, in its three forms: one call per event, one
//! per room and batch, one per connection and batch.

use std::collections::HashMap;

use super::peers::Peers;
use super::publish::Line;
use crate::clock::{rfc3339, unix_now};
use crate::frame;

/// Before, between and behind the published parts of a native envelope.
const ENVELOPE: [&[u8]; 4] = [br#"{"event":""#, br#"","data":"#, br#","timestamp":""#, br#""}"#];
/// Length of an RFC 3339 time with milliseconds.
const TIME: usize = 24;

#[derive(Default)]
struct Room {
    members: Vec<u32>,
    /// Frames of this batch, one behind the other.
    batch: Vec<u8>,
}

/// All rooms, and what waits to be sent to them.
#[derive(Default)]
pub struct Fan {
    names: HashMap<String, usize>,
    rooms: Vec<Room>,
    /// Rooms whose batch is not empty.
    touched: Vec<usize>,
    frame: Vec<u8>,
    timestamp: [u8; TIME],
    timestamp_ms: u64,
    /// Only with `gather`: for each connection the touched rooms it is in.
    pending: Vec<Vec<u32>>,
    dirty: Vec<u32>,
}

impl Fan {
    /// Adds a member; a second join changes nothing.
    pub fn join(&mut self, room: &str, slot: usize) {
        let index = *self.names.entry(room.to_owned()).or_insert(self.rooms.len());
        if index == self.rooms.len() {
            self.rooms.push(Room::default());
        }
        let members = &mut self.rooms[index].members;
        if !members.contains(&(slot as u32)) {
            members.push(slot as u32);
        }
        if self.pending.len() <= slot {
            self.pending.resize_with(slot + 1, Vec::new);
        }
    }

    /// Removes all members that have ended.
    pub fn forget(&mut self, peers: &Peers) {
        for room in &mut self.rooms {
            room.members.retain(|slot| peers.lives(*slot as usize));
        }
    }

    /// Reads the clock; the events of one turn carry one time.
    pub fn start_turn(&mut self) {
        let now = unix_now() / 1_000_000;
        if now != self.timestamp_ms {
            self.timestamp_ms = now;
            self.timestamp = rfc3339(now);
        }
    }

    /// The event as one whole frame in `frame`.
    fn build(&mut self, event: &str, data: &[u8]) {
        let fixed: usize = ENVELOPE.iter().map(|part| part.len()).sum();
        self.frame.clear();
        frame::push_server_header(&mut self.frame, fixed + event.len() + data.len() + TIME);
        for part in
            [ENVELOPE[0], event.as_bytes(), ENVELOPE[1], data, ENVELOPE[2], &self.timestamp, ENVELOPE[3]]
        {
            self.frame.extend_from_slice(part);
        }
    }

    /// The answer to a join.
    pub fn confirm(&mut self, room: &str, slot: usize, peers: &mut Peers) {
        let data = serde_json::json!({ "room": room }).to_string();
        self.build("room_joined", data.as_bytes());
        peers.send(slot, &self.frame);
    }

    /// Sends one event to every member at once.
    #[inline]
    pub fn send(&mut self, line: &Line, peers: &mut Peers) {
        let Some(&room) = self.names.get(line.room) else { return };
        self.build(line.event, line.data);
        for member in &self.rooms[room].members {
            peers.send(*member as usize, &self.frame);
        }
    }

    /// Adds one event to its room's batch.
    #[inline]
    pub fn gather(&mut self, line: &Line) {
        let Some(&index) = self.names.get(line.room) else { return };
        self.build(line.event, line.data);
        let room = &mut self.rooms[index];
        if room.batch.is_empty() {
            self.touched.push(index);
        }
        room.batch.extend_from_slice(&self.frame);
    }

    /// Sends every touched room's batch to its members, one call for each
    /// member and room.
    pub fn flush_rooms(&mut self, peers: &mut Peers) {
        for index in self.touched.drain(..) {
            let room = &mut self.rooms[index];
            for member in &room.members {
                peers.send(*member as usize, &room.batch);
            }
            room.batch.clear();
        }
    }

    /// Sends every connection the batches of all its touched rooms with one
    /// call, copied together.
    pub fn flush_connections(&mut self, peers: &mut Peers) {
        for &index in &self.touched {
            for &member in &self.rooms[index].members {
                let pending = &mut self.pending[member as usize];
                if pending.is_empty() {
                    self.dirty.push(member);
                }
                pending.push(index as u32);
            }
        }
        for member in self.dirty.drain(..) {
            let pending = &mut self.pending[member as usize];
            if let [only] = pending[..] {
                peers.send(member as usize, &self.rooms[only as usize].batch);
            } else {
                self.frame.clear();
                for index in pending.iter() {
                    self.frame.extend_from_slice(&self.rooms[*index as usize].batch);
                }
                peers.send(member as usize, &self.frame);
            }
            pending.clear();
        }
        for index in self.touched.drain(..) {
            self.rooms[index].batch.clear();
        }
    }
}
