//! The recorded feed: lines of `{"recv_ns":…,"msg":…}` with the combined-stream
//! messages of the exchange, plain or compressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure::{Context, Failure};

/// The first bytes of a gzip file (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Opens a recording; `-` is standard input. Compression is seen from the
/// content.
pub fn open(path: &str) -> Result<Box<dyn BufRead>, Failure> {
    let place = || format!("cannot read {path}");
    let input: Box<dyn Read> =
        if path == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path).context(place)?) };
    let mut input = BufReader::with_capacity(256 * 1024, input);
    let compressed = input.fill_buf().context(place)?.starts_with(&GZIP);
    Ok(if compressed { Box::new(BufReader::new(MultiGzDecoder::new(input))) } else { Box::new(input) })
}

/// One line.
#[derive(Deserialize)]
pub struct Recorded<'a> {
    /// When it was captured, Unix ns.
    pub recv_ns: u64,
    #[serde(borrow)]
    msg: Combined<'a>,
}

#[derive(Deserialize)]
struct Combined<'a> {
    stream: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What a message says. Numbers are texts, as the exchange sends them.
pub enum Message<'a> {
    Trade(Trade<'a>),
    Ticker(Ticker<'a>),
    Depth(Depth<'a>),
}

/// A trade happened.
#[derive(Deserialize)]
pub struct Trade<'a> {
    #[serde(rename = "s")]
    pub symbol: &'a str,
    #[serde(rename = "p")]
    pub price: &'a str,
    #[serde(rename = "q")]
    pub amount: &'a str,
    /// Unix ms.
    #[serde(rename = "T")]
    pub time: u64,
    /// The buyer's order was in the book, so the taker sold.
    #[serde(rename = "m")]
    pub buyer_is_maker: bool,
}

/// The best bid and ask changed.
#[derive(Deserialize)]
pub struct Ticker<'a> {
    #[serde(rename = "s")]
    pub symbol: &'a str,
    #[serde(rename = "b")]
    pub bid: &'a str,
    #[serde(rename = "a")]
    pub ask: &'a str,
}

/// Levels of the book changed.
#[derive(Deserialize)]
pub struct Depth<'a> {
    #[serde(rename = "s")]
    pub symbol: &'a str,
    /// Unix ms.
    #[serde(rename = "E")]
    pub time: u64,
    #[serde(rename = "b", borrow)]
    pub bids: Vec<(&'a str, &'a str)>,
    #[serde(rename = "a", borrow)]
    pub asks: Vec<(&'a str, &'a str)>,
}

impl<'a> Recorded<'a> {
    /// Parses a line.
    pub fn parse(line: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }

    /// The message; `None` if it is of a stream that is not replayed.
    pub fn message(&self) -> Result<Option<Message<'a>>, serde_json::Error> {
        let data = self.msg.data.get();
        let kind = self.msg.stream.split('@').nth(1).unwrap_or("");
        Ok(match kind {
            "trade" => Some(Message::Trade(serde_json::from_str(data)?)),
            "bookTicker" => Some(Message::Ticker(serde_json::from_str(data)?)),
            "depth" => Some(Message::Depth(serde_json::from_str(data)?)),
            _ => None,
        })
    }
}

impl Message<'_> {
    /// The exchange's name of the pair.
    pub fn symbol(&self) -> &str {
        match self {
            Self::Trade(trade) => trade.symbol,
            Self::Ticker(ticker) => ticker.symbol,
            Self::Depth(depth) => depth.symbol,
        }
    }
}

/// The exchange's names of the pairs in a recording, by reading it once, in
/// order of appearance.
pub fn symbols(path: &str, limit: u64) -> Result<Vec<String>, Failure> {
    let mut found: Vec<String> = Vec::new();
    let (mut input, mut line, mut count) = (open(path)?, String::new(), 0);
    while count < limit && input.read_line(&mut line).context(|| format!("cannot read {path}"))? > 0 {
        if let Ok(recorded) = Recorded::parse(line.trim_end())
            && let Ok(Some(message)) = recorded.message()
            && !found.iter().any(|symbol| symbol == message.symbol())
        {
            found.push(message.symbol().to_owned());
        }
        count += 1;
        line.clear();
    }
    Ok(found)
}
