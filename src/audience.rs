//! Who a client is, as keys and labels: its app, its transport, and the wire its events are framed in.
//!
//! Rank 0: everything may import this, it imports nothing.

/// One client contract (`App::ALL` is the order of every per-app array).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum App {
    /// Account updates, wire `typed`.
    Account,
    /// The trading gateway, wires `native` and `socketio`.
    Market,
    /// One-to-one chat, wire `native`.
    Conversation,
    /// Support chat sessions, wire `session`.
    Support,
    /// Mobile chat and wallet, wire `socketio`.
    Mobile,
}

impl App {
    /// How many apps there are: the length of every per-app array.
    pub const COUNT: usize = 5;

    /// All apps, in index order.
    pub const ALL: [App; App::COUNT] =
        [App::Account, App::Market, App::Conversation, App::Support, App::Mobile];

    /// The app's place in a per-app array.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name used in configuration, ingest lines, logs and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            App::Account => "account",
            App::Market => "market",
            App::Conversation => "conversation",
            App::Support => "support",
            App::Mobile => "mobile",
        }
    }

    /// The app of that name, or `None`.
    pub fn from_name(name: &str) -> Option<App> {
        App::ALL.into_iter().find(|app| app.name() == name)
    }
}

/// How a client's bytes travel, as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TransportKind {
    /// A WebSocket connection.
    WebSocket,
    /// Engine.IO's HTTP long-polling.
    Polling,
}

impl TransportKind {
    /// How many kinds there are.
    pub const COUNT: usize = 2;

    /// All kinds, in index order.
    pub const ALL: [TransportKind; TransportKind::COUNT] = [TransportKind::WebSocket, TransportKind::Polling];

    /// The metric label.
    pub const fn name(self) -> &'static str {
        match self {
            TransportKind::WebSocket => "websocket",
            TransportKind::Polling => "polling",
        }
    }
}

/// The variant key of an encoding: two clients of one wire are sent the same bytes for the same event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Wire {
    /// `{"event","data","timestamp"}`, times with milliseconds (`market` over `/feed`).
    Native,
    /// `{"type","userId"?,"data"}` (`account`).
    Typed,
    /// As native, times without a fraction (`conversation`).
    Conversation,
    /// `42["event",DATA]`, namespace `/` (`market` over Socket.IO).
    SocketIo,
    /// `42["event",DATA,"OFFSET"]`, namespace `/`: for clients that asked for connection state recovery.
    SocketIoOffset,
    /// `42/custom,["event",DATA]`, the second namespace of the conformance echo application.
    SocketIoCustom,
    /// `42/chat,["event",DATA]` (`mobile`).
    SocketIoChat,
    /// `42/wallet,["event",DATA]` (`mobile`).
    SocketIoWallet,
    /// `{"message_type","chat_session_id","user_id","content"?,"timestamp","metadata"}` (`support`).
    Session,
}

impl Wire {
    /// How many wires there are: the length of every per-wire array.
    pub const COUNT: usize = 9;

    /// All wires, in index order.
    pub const ALL: [Wire; Wire::COUNT] = [
        Wire::Native,
        Wire::Typed,
        Wire::Conversation,
        Wire::SocketIo,
        Wire::SocketIoOffset,
        Wire::SocketIoCustom,
        Wire::SocketIoChat,
        Wire::SocketIoWallet,
        Wire::Session,
    ];

    /// The wire's place in a per-wire array.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Wire::Native => "native",
            Wire::Typed => "typed",
            Wire::Conversation => "conversation",
            Wire::SocketIo => "socketio",
            Wire::SocketIoOffset => "socketio_offset",
            Wire::SocketIoCustom => "socketio_custom",
            Wire::SocketIoChat => "socketio_chat",
            Wire::SocketIoWallet => "socketio_wallet",
            Wire::Session => "session",
        }
    }

    /// The app whose clients use this wire.
    pub const fn app(self) -> App {
        match self {
            Wire::Native | Wire::SocketIo | Wire::SocketIoOffset | Wire::SocketIoCustom => App::Market,
            Wire::Typed => App::Account,
            Wire::Conversation => App::Conversation,
            Wire::SocketIoChat | Wire::SocketIoWallet => App::Mobile,
            Wire::Session => App::Support,
        }
    }

    /// The Socket.IO namespace; `None` where the wire is another protocol's.
    pub const fn namespace(self) -> Option<&'static str> {
        match self {
            Wire::Native | Wire::Typed | Wire::Conversation | Wire::Session => None,
            Wire::SocketIo | Wire::SocketIoOffset => Some("/"),
            Wire::SocketIoCustom => Some("/custom"),
            Wire::SocketIoChat => Some("/chat"),
            Wire::SocketIoWallet => Some("/wallet"),
        }
    }

    /// Whether events carry their offset as one more argument.
    pub const fn has_offset(self) -> bool {
        matches!(self, Wire::SocketIoOffset)
    }

    /// The same wire for a client that did not ask for offsets.
    pub const fn without_offset(self) -> Wire {
        match self {
            Wire::SocketIoOffset => Wire::SocketIo,
            other => other,
        }
    }
}
