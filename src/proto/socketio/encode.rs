//! The texts of packets that the server sends.

use std::io::Write;

use super::{Kind, MAIN};
use crate::proto::json::write_str;

/// Appends what stands before the payload: the kind, `attachments` and `-` if the kind is binary, the namespace and
/// a comma unless it is [`MAIN`], the id. It is all there is to a [`Kind::Disconnect`].
///
/// `namespace` begins with `/` and has no comma, as in any packet that was read.
#[inline]
pub fn write_head(out: &mut Vec<u8>, kind: Kind, attachments: u32, namespace: &str, id: Option<u64>) {
    out.push(kind.digit());
    // Writing into a vector cannot fail.
    if kind.is_binary() {
        let _ = write!(out, "{attachments}-");
    }
    if namespace != MAIN {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        let _ = write!(out, "{id}");
    }
}

/// Appends the answer to a [`Kind::Connect`]: the client's id in this namespace and, if it can come back to what it
/// missed, the secret with which it does.
pub fn write_connect(out: &mut Vec<u8>, namespace: &str, sid: &str, pid: Option<&str>) {
    write_head(out, Kind::Connect, 0, namespace, None);
    out.extend_from_slice(b"{\"sid\":");
    write_str(out, sid);
    if let Some(pid) = pid {
        out.extend_from_slice(b",\"pid\":");
        write_str(out, pid);
    }
    out.push(b'}');
}

/// Appends the refusal of a [`Kind::Connect`]. `data`, JSON, is more about it for programs.
pub fn write_connect_error(out: &mut Vec<u8>, namespace: &str, message: &str, data: Option<&[u8]>) {
    write_head(out, Kind::ConnectError, 0, namespace, None);
    out.extend_from_slice(b"{\"message\":");
    write_str(out, message);
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data);
    }
    out.push(b'}');
}
