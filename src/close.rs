//! Every way a connection ends, and every error code a client or publisher can be given.
//!
//! The tables are those of `spec/limits.md`; RFC 6455 §7.4 gives the meaning of the close codes below 2000.

use std::fmt;

/// Why a connection ended: one value, counted once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed, or its TCP connection ended after a close frame.
    ClientClosed,
    /// The client left its Socket.IO namespace (DISCONNECT): it does not mean to come back.
    ClientLeft,
    /// The TCP connection ended or failed without a close frame.
    ConnectionLost,
    /// The request was answered and the connection was not to be kept.
    Answered,
    /// The server drains.
    GoingAway,
    /// The client broke the WebSocket protocol.
    ProtocolError(&'static str),
    /// Binary where text is needed.
    UnsupportedData,
    /// A text message that is not UTF-8.
    InvalidUtf8,
    /// A message over the size limit.
    MessageTooLarge,
    /// The token's time is over and no new one came within the grace.
    TokenExpired,
    /// Ten refusals in a row, or too many ping frames.
    Abuse,
    /// Nothing received after a ping.
    PingTimeout,
    /// The upgrade or the TLS handshake took too long.
    HandshakeTimeout,
    /// TLS failed.
    TlsError,
    /// The outbox was full.
    SlowConsumer,
    /// No room for more.
    Overloaded,
    /// A backend asked for it.
    Disconnected {
        /// 4000–4999, or 1000.
        code: u16,
        /// At most 123 bytes.
        reason: Box<str>,
    },
    /// Our fault.
    Internal,
    /// The client may not be where it came: a bad token, an unknown session, one it takes no part in.
    Policy(&'static str),
    /// The support session was closed.
    SessionClosed,
}

impl CloseReason {
    /// The labels of `fanfare_connections_closed_total`, in index order.
    pub const LABELS: [&'static str; 20] = [
        "client_closed",
        "connection_lost",
        "answered",
        "going_away",
        "protocol_error",
        "unsupported_data",
        "invalid_utf8",
        "message_too_large",
        "token_expired",
        "abuse",
        "ping_timeout",
        "handshake_timeout",
        "tls_error",
        "slow_consumer",
        "overloaded",
        "disconnected",
        "internal",
        "client_left",
        "policy",
        "session_closed",
    ];

    /// The place of this reason in a per-reason array.
    pub const fn index(&self) -> usize {
        match self {
            CloseReason::ClientClosed => 0,
            CloseReason::ConnectionLost => 1,
            CloseReason::Answered => 2,
            CloseReason::GoingAway => 3,
            CloseReason::ProtocolError(_) => 4,
            CloseReason::UnsupportedData => 5,
            CloseReason::InvalidUtf8 => 6,
            CloseReason::MessageTooLarge => 7,
            CloseReason::TokenExpired => 8,
            CloseReason::Abuse => 9,
            CloseReason::PingTimeout => 10,
            CloseReason::HandshakeTimeout => 11,
            CloseReason::TlsError => 12,
            CloseReason::SlowConsumer => 13,
            CloseReason::Overloaded => 14,
            CloseReason::Disconnected { .. } => 15,
            CloseReason::Internal => 16,
            CloseReason::ClientLeft => 17,
            CloseReason::Policy(_) => 18,
            CloseReason::SessionClosed => 19,
        }
    }

    /// The metric label and the word in logs.
    pub const fn label(&self) -> &'static str {
        CloseReason::LABELS[self.index()]
    }

    /// The WebSocket close code to send.
    pub const fn code(&self) -> u16 {
        match self {
            CloseReason::ClientClosed
            | CloseReason::ClientLeft
            | CloseReason::Answered
            | CloseReason::SessionClosed
            | CloseReason::ConnectionLost => 1000,
            CloseReason::GoingAway | CloseReason::PingTimeout | CloseReason::HandshakeTimeout => 1001,
            CloseReason::ProtocolError(_) | CloseReason::TlsError => 1002,
            CloseReason::UnsupportedData => 1003,
            CloseReason::InvalidUtf8 => 1007,
            CloseReason::TokenExpired | CloseReason::Abuse | CloseReason::Policy(_) => 1008,
            CloseReason::MessageTooLarge => 1009,
            CloseReason::Internal => 1011,
            CloseReason::SlowConsumer | CloseReason::Overloaded => 1013,
            CloseReason::Disconnected { code, .. } => *code,
        }
    }

    /// The text of the close frame: what happened, in plain words.
    pub fn text(&self) -> &str {
        match self {
            CloseReason::ClientClosed
            | CloseReason::ClientLeft
            | CloseReason::Answered
            | CloseReason::ConnectionLost => "",
            CloseReason::GoingAway => "server is going away, reconnect",
            CloseReason::ProtocolError(what) | CloseReason::Policy(what) => what,
            CloseReason::UnsupportedData => "send text, not binary",
            CloseReason::InvalidUtf8 => "text is not UTF-8",
            CloseReason::MessageTooLarge => "message too large",
            CloseReason::TokenExpired => "token expired, connect with a new one",
            CloseReason::Abuse => "too many refused requests",
            CloseReason::PingTimeout => "no answer to ping",
            CloseReason::HandshakeTimeout => "handshake took too long",
            CloseReason::TlsError => "TLS failed",
            CloseReason::SlowConsumer => "slow consumer",
            CloseReason::Overloaded => "overloaded, try again later",
            CloseReason::Disconnected { reason, .. } => reason,
            CloseReason::Internal => "internal error",
            CloseReason::SessionClosed => "session closed",
        }
    }

    /// Whether the end is worth a line in the log.
    pub const fn is_abnormal(&self) -> bool {
        !matches!(
            self,
            CloseReason::ClientClosed
                | CloseReason::ClientLeft
                | CloseReason::Answered
                | CloseReason::ConnectionLost
                | CloseReason::GoingAway
                | CloseReason::SessionClosed
        )
    }

    /// Whether a client that asked for connection state recovery may come back to its session: its transport was lost, and
    /// it neither left nor was sent away.
    pub const fn is_recoverable(&self) -> bool {
        matches!(
            self,
            CloseReason::ClientClosed
                | CloseReason::ConnectionLost
                | CloseReason::PingTimeout
                | CloseReason::TokenExpired
                | CloseReason::SlowConsumer
                | CloseReason::TlsError
        )
    }
}

/// An error code of `spec/limits.md`, as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ErrorCode {
    /// No or an invalid token.
    AuthRequired,
    /// The same in the words of `conversation` and of REST.
    Unauthorized,
    /// The token's time is over.
    TokenExpired,
    /// Slow down.
    RateLimited,
    /// No such room.
    RoomNotFound,
    /// No such thing.
    NotFound,
    /// It exists and is not yours.
    AccessDenied,
    /// The same in the words of `conversation` and of REST.
    Forbidden,
    /// Malformed.
    InvalidMessage,
    /// A field is missing or wrong; `details` names it.
    ValidationError,
    /// No message may have that type.
    InvalidMessageType,
    /// Over the size limit.
    MessageTooLarge,
    /// Too many connections.
    ConnectionLimit,
    /// No more participants.
    ConversationFull,
    /// A connection-level fault: nobody could take what was sent.
    ConnectionError,
    /// Our fault.
    InternalError,
}

impl ErrorCode {
    /// All codes, in index order.
    pub const ALL: [ErrorCode; 16] = [
        ErrorCode::AuthRequired,
        ErrorCode::Unauthorized,
        ErrorCode::TokenExpired,
        ErrorCode::RateLimited,
        ErrorCode::RoomNotFound,
        ErrorCode::NotFound,
        ErrorCode::AccessDenied,
        ErrorCode::Forbidden,
        ErrorCode::InvalidMessage,
        ErrorCode::ValidationError,
        ErrorCode::InvalidMessageType,
        ErrorCode::MessageTooLarge,
        ErrorCode::ConnectionLimit,
        ErrorCode::ConversationFull,
        ErrorCode::ConnectionError,
        ErrorCode::InternalError,
    ];

    /// The code's place in a per-code array.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::AuthRequired => "AUTH_REQUIRED",
            ErrorCode::Unauthorized => "UNAUTHORIZED",
            ErrorCode::TokenExpired => "TOKEN_EXPIRED",
            ErrorCode::RateLimited => "RATE_LIMITED",
            ErrorCode::RoomNotFound => "ROOM_NOT_FOUND",
            ErrorCode::NotFound => "NOT_FOUND",
            ErrorCode::AccessDenied => "ACCESS_DENIED",
            ErrorCode::Forbidden => "FORBIDDEN",
            ErrorCode::InvalidMessage => "INVALID_MESSAGE",
            ErrorCode::ValidationError => "VALIDATION_ERROR",
            ErrorCode::InvalidMessageType => "INVALID_MESSAGE_TYPE",
            ErrorCode::MessageTooLarge => "MESSAGE_TOO_LARGE",
            ErrorCode::ConnectionLimit => "CONNECTION_LIMIT",
            ErrorCode::ConversationFull => "CONVERSATION_FULL",
            ErrorCode::ConnectionError => "CONNECTION_ERROR",
            ErrorCode::InternalError => "INTERNAL_ERROR",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
