//! A connection that carries requests for sessions of several shards (`spec/market.md`): a proxy's keep-alive connection may
//! alternate between sessions. It moves at the boundary of two requests, with its TLS state and what has been read of it;
//! the shard it goes to reads the request anew.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use crate::shard::conn::{Conn, Phase};
use crate::shard::{Net, Shard, wheel};
use crate::time::Now;
use crate::transport::{Stream, Transport};

/// A connection on its way to another shard.
pub struct HandedOver<S: Stream> {
    transport: Transport<S>,
    peer: IpAddr,
    is_surplus: bool,
    peer_closed: bool,
    /// What has been read: a request's head at least.
    bytes: Vec<u8>,
}

impl<N: Net> Shard<N> {
    /// Gives a connection away whose next request is for a session of `shard`; `bytes`: from that request on.
    pub(super) fn hand_over(&mut self, key: u32, shard: u8, bytes: Vec<u8>) {
        let Some(mut conn) = self.conns.remove(key) else { return };
        self.metrics.sockets.sub(1);
        if self.net.deregister(conn.transport.stream_mut()).is_err() {
            self.common.open_sockets.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let handed = HandedOver {
            transport: conn.transport,
            peer: conn.peer,
            is_surplus: conn.is_surplus,
            peer_closed: conn.peer_closed,
            bytes,
        };
        self.handovers.push((shard, Box::new(handed)));
    }

    /// Connections that belong to other shards, to be sent to them as [`Command::HandOver`](super::turn::Command::HandOver).
    pub fn handovers(&mut self) -> &mut Vec<(u8, Box<HandedOver<N::Stream>>)> {
        &mut self.handovers
    }

    /// So many connections that were given away have found nobody.
    pub fn forget_sockets(&self, lost: usize) {
        self.common.open_sockets.fetch_sub(lost, Ordering::AcqRel);
    }

    /// Takes a connection that another shard has given away.
    pub(super) fn take_over_conn(&mut self, handed: HandedOver<N::Stream>, now: Now) {
        let HandedOver { transport, peer, is_surplus, peer_closed, mut bytes } = handed;
        self.metrics.sockets.add(1);
        let key = self.conns.insert(Conn {
            transport,
            phase: Phase::Head(Vec::new()),
            peer,
            received: wheel::tick(now.mono),
            armed: 0,
            is_ready: false,
            peer_closed,
            is_surplus,
            was_answered: true,
        });
        let registered = match self.conns.get_mut(key) {
            Some(conn) => self.net.register(conn.transport.stream_mut(), key),
            None => return,
        };
        if let Err(error) = registered {
            tracing::warn!(%error, "a connection was let go: the poll does not take it");
            return self.drop_conn(key);
        }
        self.arm(key, now);
        self.head(key, &mut bytes, now);
        // What came while it was on its way is not reported a second time if it was reported to the other shard.
        if let Some(conn) = self.conns.get_mut(key)
            && !std::mem::replace(&mut conn.is_ready, true)
        {
            self.ready.push(key);
        }
    }
}
