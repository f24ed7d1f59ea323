//! The end of a turn: one write for each client that has something, and what becomes of what a socket refuses.

use std::io::IoSlice;

use crate::app::{Input, wire};
use crate::close::CloseReason;
use crate::shard::backlog::Backlog;
use crate::shard::conn::{Conn, Owner, Phase};
use crate::shard::engine::Engine;
use crate::shard::line::{Line, LineKey, Place};
use crate::shard::outbox::{Chunk, Queue};
use crate::shard::{Net, Shard};
use crate::time::Now;
use crate::transport::{Flush, Stream, Transport, WriteScratch};

/// Small frames are gathered into one buffer up to this: a copy beats handing the kernel many small slices.
const GATHER_BYTES: usize = 64 * 1024;
/// Slices of one gathered write of large chunks.
const SLICES: usize = 64;

/// What a flush came to.
pub(super) enum Flushed {
    /// Everything is out.
    Drained,
    /// The socket is full.
    Blocked,
    /// The connection is broken.
    Broken,
}

impl<N: Net> Shard<N> {
    /// A socket can take bytes again.
    pub(super) fn writable(&mut self, key: u32) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let line = match conn.phase {
            Phase::WebSocket { owner: Owner::Client(client), .. } => LineKey::client(client),
            Phase::WebSocket { owner: Owner::Engine(engine), .. } => LineKey::engine(engine),
            Phase::Answering(_) => return self.go_on_answering(key),
            // Ended, and still to be told so when what TLS had left is out.
            Phase::Lingering { .. } => {
                if conn.transport.shutdown_write().is_err() {
                    self.drop_conn(key);
                }
                return;
            }
            Phase::Head(_) | Phase::Body(_) | Phase::Waiting(_) | Phase::Polling(_) => {
                if conn.transport.flush().is_err() {
                    self.lost(key, CloseReason::ConnectionLost);
                }
                return;
            }
        };
        if let Some(found) = line.find(&mut self.clients, &mut self.engines)
            && found.conn == key
            && let Some(backlog) = &mut found.backlog
            && !std::mem::replace(&mut backlog.writable, true)
        {
            self.fanout.dirty.push(line);
        }
    }

    /// Writes what the turn has for its clients. Returns how many frames per client that was, on average.
    pub fn flush(&mut self, now: Now) -> Flow {
        self.seal_all();
        self.close_overflowed(now);
        let mut flow = Flow::default();
        let mut dirty = std::mem::take(&mut self.fanout.dirty);
        flow.clients = dirty.len();
        for line in dirty.drain(..) {
            self.flush_line(line, now);
        }
        self.fanout.dirty = dirty;
        flow.events = self.fanout.written.len();
        flow.frames = self.record_written();
        self.fanout.clear();
        self.tell_written(now);
        // Those whose backlog this flush has filled are told in the next turn.
        flow
    }

    fn close_overflowed(&mut self, now: Now) {
        while let Some(key) = self.fanout.overflowed.pop() {
            // The one that was meant may be gone, and another one in its place.
            let held = key.find(&mut self.clients, &mut self.engines).map_or(0, |line| line.held());
            if held > self.settings.limits.outbox {
                self.close_line(key, CloseReason::SlowConsumer, now);
            }
        }
    }

    fn flush_line(&mut self, key: LineKey, now: Now) {
        let Some(line) = key.find(&mut self.clients, &mut self.engines) else { return };
        let queue = std::mem::take(&mut line.queue);
        let held = line.held();
        let flushed = match key.place() {
            Place::Engine(engine) if self.is_polling(engine) => self.flush_poll(engine, queue, now),
            _ => self.write_line(key, queue),
        };
        let Some(line) = key.find(&mut self.clients, &mut self.engines) else { return };
        if std::mem::take(&mut line.has_left) {
            // What was refused of this turn may hold events of a room that was left in it.
            self.retain_marks(key, None);
        }
        let Some(line) = key.find(&mut self.clients, &mut self.engines) else { return };
        let (holds, conn, is_closing) = (line.held(), line.conn, line.closing.is_some());
        match holds >= held {
            true => self.metrics.outbox_bytes.add((holds - held) as u64),
            false => self.metrics.outbox_bytes.sub((held - holds) as u64),
        }
        match flushed {
            Flushed::Broken => self.lost(conn, CloseReason::ConnectionLost),
            Flushed::Drained if is_closing => self.finish(key, now),
            Flushed::Drained => {
                if std::mem::take(&mut line.tells_written) {
                    self.written.push(key);
                }
            }
            Flushed::Blocked => {
                if holds > self.settings.limits.outbox {
                    self.fanout.overflowed.push(key);
                }
            }
        }
    }

    /// Tells those who asked that all they were to be sent is written.
    fn tell_written(&mut self, now: Now) {
        for key in std::mem::take(&mut self.written) {
            let clients = match key.place() {
                Place::Client(client) => vec![client],
                Place::Engine(engine) => self.engines.get(engine).map(Engine::clients).unwrap_or_default(),
            };
            for client in clients {
                self.input(client, Input::Written, now);
            }
        }
    }

    /// Writes what the turn has for a line, and what is held up.
    fn write_line(&mut self, key: LineKey, queue: Queue) -> Flushed {
        let Some(line) = key.find(&mut self.clients, &mut self.engines) else { return Flushed::Drained };
        let Some(conn) = self.conns.get_mut(line.conn) else { return Flushed::Drained };
        let mut writer = Writer {
            memory: &self.fanout.memory,
            gather: &mut self.gather,
            scratch: &mut self.write_scratch,
            metrics: &self.metrics,
            line,
            writes: 0,
        };
        let flushed = match writer.line.backlog.take() {
            Some(backlog) => writer.backlog(conn, backlog),
            None => writer.turn(conn, queue),
        };
        let writes = writer.writes;
        self.metrics.socket_writes[line.wire.index()].add(writes);
        flushed
    }

    /// Records how long it took from the publishers to here. Returns frames written per event.
    fn record_written(&mut self) -> usize {
        let mut frames = 0;
        if self.fanout.written.is_empty() {
            return frames;
        }
        let now = self.net.now();
        for (publication, members) in self.fanout.written.drain(..) {
            frames += members as usize;
            if publication.written() && members > 0 {
                self.latencies.fanout(now.mono.saturating_sub(publication.received.mono));
            }
            if let Some(ts) = publication.ts
                && members > 0
            {
                let taken = now.unix.saturating_sub(ts.max(0) as u64);
                self.latencies.end_to_end(taken, u64::from(members));
            }
        }
        frames
    }

    /// Whether a client's backlog went over the limit in the flush.
    pub fn has_overflowed(&self) -> bool {
        !self.fanout.overflowed.is_empty()
    }
}

/// What went through a turn: the measure that decides whether the next one may wait for more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// Events delivered.
    pub events: usize,
    /// Clients written to.
    pub clients: usize,
    /// Events times their clients.
    pub frames: usize,
}

/// Writes for one client.
struct Writer<'a> {
    memory: &'a super::outbox::TurnMemory,
    gather: &'a mut Vec<u8>,
    scratch: &'a mut WriteScratch,
    metrics: &'a crate::metrics::ShardMetrics,
    line: &'a mut Line,
    writes: u64,
}

impl Writer<'_> {
    /// Writes this turn's chunks; what the socket refuses becomes the client's backlog.
    fn turn<S: Stream>(&mut self, conn: &mut Conn<S>, queue: Queue) -> Flushed {
        if queue.is_empty() {
            return Flushed::Drained;
        }
        let mut chunks = self.memory.chunks(queue);
        let (first, second) = (chunks.next(), chunks.next());
        let outcome = match (first, second) {
            (Some(only), None) => {
                let bytes = self.memory.bytes_of(only);
                write_all(&mut conn.transport, bytes, self.scratch, &mut self.writes)
            }
            _ => self.gathered(conn, queue),
        };
        match outcome {
            Ok((_, true)) => Flushed::Drained,
            Ok((written, false)) => {
                self.keep(queue, written);
                Flushed::Blocked
            }
            Err(_) => Flushed::Broken,
        }
    }

    /// Several chunks: small ones are gathered by copying, large ones are handed over as they lie.
    fn gathered<S: Stream>(&mut self, conn: &mut Conn<S>, queue: Queue) -> std::io::Result<(usize, bool)> {
        let total: usize = self.memory.chunks(queue).map(|chunk| self.memory.bytes_of(chunk).len()).sum();
        if total <= GATHER_BYTES {
            self.gather.clear();
            for chunk in self.memory.chunks(queue) {
                self.gather.extend_from_slice(self.memory.bytes_of(chunk));
            }
            return write_all(&mut conn.transport, self.gather, self.scratch, &mut self.writes);
        }
        let chunks: Vec<Chunk> = self.memory.chunks(queue).collect();
        let (mut index, mut offset, mut written) = (0, 0, 0);
        while index < chunks.len() {
            let first = &self.memory.bytes_of(chunks[index])[offset..];
            let slices: Vec<IoSlice<'_>> = std::iter::once(first)
                .chain(chunks[index + 1..].iter().take(SLICES - 1).map(|chunk| self.memory.bytes_of(*chunk)))
                .map(IoSlice::new)
                .collect();
            self.writes += 1;
            let outcome = conn.transport.write_vectored(&slices, self.scratch)?;
            written += outcome.taken;
            let mut taken = outcome.taken;
            while let Some(chunk) = chunks.get(index) {
                let rest = self.memory.bytes_of(*chunk).len() - offset;
                if taken < rest {
                    offset += taken;
                    break;
                }
                taken -= rest;
                offset = 0;
                index += 1;
            }
            if outcome.blocked {
                break;
            }
        }
        Ok((written, index == chunks.len() && !conn.transport.wants_flush()))
    }

    /// Makes what is left of the turn's chunks the client's backlog.
    fn keep(&mut self, queue: Queue, mut written: usize) {
        let mut backlog = Box::new(Backlog::default());
        for chunk in self.memory.chunks(queue) {
            let length = self.memory.bytes_of(chunk).len();
            if written >= length {
                written -= length;
                continue;
            }
            let replaced = backlog.keep_chunk(self.memory, chunk, written);
            self.metrics.events_conflated.add(replaced);
            written = 0;
        }
        self.line.backlog = Some(backlog);
    }

    /// Goes on with a backlog, if the socket can take bytes again.
    fn backlog<S: Stream>(&mut self, conn: &mut Conn<S>, mut backlog: Box<Backlog>) -> Flushed {
        if !backlog.writable {
            self.line.backlog = Some(backlog);
            return Flushed::Blocked;
        }
        let outcome = self.drain_backlog(conn, &mut backlog);
        match outcome {
            Ok(true) => return Flushed::Drained,
            Ok(false) => {}
            Err(_) => return Flushed::Broken,
        }
        backlog.writable = false;
        self.line.backlog = Some(backlog);
        Flushed::Blocked
    }

    /// Writes until the backlog is empty, `true`, or the socket is full. The first write takes all that is queued
    /// up to a bound, newest values included; there is a second one only for a longer backlog.
    fn drain_backlog<S: Stream>(
        &mut self,
        conn: &mut Conn<S>,
        backlog: &mut Backlog,
    ) -> std::io::Result<bool> {
        if conn.transport.flush()? == Flush::Blocked {
            return Ok(false);
        }
        loop {
            // What was kept back comes after newer events of other rooms: it must not take the client's offset back.
            let wire = self.line.wire.without_offset();
            let refreshed = match self.line.closing.is_some() {
                true => {
                    backlog.forget_marks();
                    0
                }
                false => backlog.refresh(wire, wire::write_event),
            };
            self.line.has_conflated |= refreshed > 0;
            self.metrics.deliveries[self.line.wire.index()].add(refreshed);
            if backlog.is_drained() {
                return Ok(!conn.transport.wants_flush());
            }
            backlog.gather(self.gather);
            let (written, all) = write_all(&mut conn.transport, self.gather, self.scratch, &mut self.writes)?;
            let replaced = backlog.advance(written);
            self.metrics.events_conflated.add(replaced);
            if !all {
                return Ok(false);
            }
        }
    }
}

/// Writes until all is taken or the socket is full. Returns what was taken, and whether that is all and nothing is held
/// back below. A plain socket gets one system call.
fn write_all<S: Stream>(
    transport: &mut Transport<S>,
    bytes: &[u8],
    scratch: &mut WriteScratch,
    writes: &mut u64,
) -> std::io::Result<(usize, bool)> {
    let mut written = 0;
    while written < bytes.len() {
        *writes += 1;
        let outcome = transport.write(&bytes[written..], scratch)?;
        written += outcome.taken;
        if outcome.blocked {
            break;
        }
    }
    Ok((written, written == bytes.len() && !transport.wants_flush()))
}
