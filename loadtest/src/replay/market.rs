//! What is published for the exchange's messages: trades, prices, and the best
//! levels of the book, as the market app's events. Pure: data out, no sockets.

use std::collections::HashMap;
use std::io::Write;

use super::book::{Book, Side};
use super::decimal::Decimal;
use super::feed::{Depth, Message, Ticker, Trade};
use crate::clock::rfc3339;

/// Currencies that a pair's name ends in; a longer one stands before the one
/// it ends with, so that `BTCFDUSD` is not split behind `BTCF`.
const QUOTES: [&str; 11] =
    ["FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "EUR", "TRY", "BTC", "ETH", "BNB"];

/// One event to publish.
pub struct Event<'a> {
    /// `trade`, `price` or `orderbook`.
    pub prefix: &'static str,
    pub name: &'static str,
    /// The pair, such as `BTC-USDT`.
    pub pair: &'a str,
    /// JSON.
    pub data: &'a [u8],
}

#[derive(Default)]
struct Market {
    pair: String,
    /// The price that `change` is against.
    first: Option<Decimal>,
    /// Amount traded so far.
    volume: Decimal,
    book: Book,
}

/// All pairs of a recording.
pub struct Markets {
    names: HashMap<String, String>,
    markets: HashMap<String, Market>,
    data: Vec<u8>,
}

impl Markets {
    /// `names` maps the exchange's names to pairs; others follow [`pair`].
    pub fn new(names: HashMap<String, String>) -> Self {
        Self { names, markets: HashMap::new(), data: Vec::new() }
    }

    /// The pair of an exchange's symbol.
    pub fn pair(&self, symbol: &str) -> String {
        self.names.get(symbol).cloned().unwrap_or_else(|| pair(symbol))
    }

    /// Takes in a message captured at `recv_ns` (Unix ns); returns what it is
    /// published as.
    ///
    /// # Errors
    /// The text that should be a number and is not.
    pub fn apply(&mut self, message: &Message, recv_ns: u64) -> Result<Event<'_>, String> {
        let symbol = message.symbol();
        let pair = self.pair(symbol);
        let market =
            self.markets.entry(symbol.to_owned()).or_insert_with(|| Market { pair, ..Market::default() });
        self.data.clear();
        let (prefix, name) = match message {
            Message::Trade(trade) => market.trade(trade, &mut self.data)?,
            Message::Ticker(ticker) => market.price(ticker, recv_ns / 1_000_000, &mut self.data)?,
            Message::Depth(depth) => market.levels(depth, &mut self.data)?,
        };
        Ok(Event { prefix, name, pair: &market.pair, data: &self.data })
    }
}

/// Room prefix and event name.
type Kind = (&'static str, &'static str);

impl Market {
    fn trade(&mut self, trade: &Trade, out: &mut Vec<u8>) -> Result<Kind, String> {
        number(trade.price)?;
        self.volume = self.volume.plus(number(trade.amount)?);
        let (symbol, price, amount) = (&self.pair, trade.price, trade.amount);
        let side = if trade.buyer_is_maker { "sell" } else { "buy" };
        let time = time(trade.time);
        write(
            out,
            format_args!(
                r#"{{"symbol":"{symbol}","price":{price},"amount":{amount},"side":"{side}","timestamp":"{time}"}}"#
            ),
        );
        Ok(("trade", "trade_notification"))
    }

    /// The price is the middle between bid and ask: it moves with each change
    /// of either, where the last trade would often repeat itself.
    fn price(&mut self, ticker: &Ticker, unix_ms: u64, out: &mut Vec<u8>) -> Result<Kind, String> {
        let price = number(ticker.bid)?.middle(number(ticker.ask)?);
        let change = price.minus(*self.first.get_or_insert(price));
        let (symbol, volume, time) = (&self.pair, self.volume, time(unix_ms));
        write(
            out,
            format_args!(
                r#"{{"symbol":"{symbol}","price":{price},"change":{change},"volume":{volume},"timestamp":"{time}"}}"#
            ),
        );
        Ok(("price", "price_update"))
    }

    fn levels(&mut self, depth: &Depth, out: &mut Vec<u8>) -> Result<Kind, String> {
        for (side, levels) in [(Side::Bids, &depth.bids), (Side::Asks, &depth.asks)] {
            for (price, amount) in levels {
                self.book.set(side, price, amount)?;
            }
        }
        write(out, format_args!(r#"{{"symbol":"{}","bids":"#, self.pair));
        self.book.write(Side::Bids, out);
        out.extend_from_slice(br#","asks":"#);
        self.book.write(Side::Asks, out);
        write(out, format_args!(r#","timestamp":"{}"}}"#, time(depth.time)));
        Ok(("orderbook", "order_book_update"))
    }
}

/// `BTCUSDT` → `BTC-USDT`; a name without a known currency at its end stays.
pub fn pair(symbol: &str) -> String {
    let split = QUOTES.iter().find_map(|quote| Some((symbol.strip_suffix(quote)?, quote)));
    match split {
        Some((base, quote)) if !base.is_empty() => format!("{base}-{quote}"),
        _ => symbol.to_owned(),
    }
}

fn number(text: &str) -> Result<Decimal, String> {
    Decimal::parse(text).ok_or_else(|| text.to_owned())
}

fn time(unix_ms: u64) -> String {
    rfc3339(unix_ms).iter().map(|byte| char::from(*byte)).collect()
}

/// Appends text; a vector takes all of it.
fn write(out: &mut Vec<u8>, text: std::fmt::Arguments) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::feed::Recorded;

    fn applied(markets: &mut Markets, stream: &str, data: &str) -> (String, String) {
        let line =
            format!(r#"{{"recv_ns":1723161254087891268,"msg":{{"stream":"{stream}","data":{data}}}}}"#);
        let recorded = Recorded::parse(&line).expect("a line");
        let message = recorded.message().expect("valid").expect("known");
        let event = markets.apply(&message, recorded.recv_ns).expect("numbers");
        let room = format!("{}:{} {}", event.prefix, event.pair, event.name);
        (room, String::from_utf8(event.data.to_vec()).expect("UTF-8"))
    }

    #[test]
    fn messages_become_events() {
        let mut markets = Markets::new(HashMap::new());
        let trade = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;
        let (room, data) = applied(&mut markets, "btcusdt@trade", trade);
        assert_eq!(room, "trade:BTC-USDT trade_notification");
        assert_eq!(
            data,
            r#"{"symbol":"BTC-USDT","price":61837.63000000,"amount":0.02000000,"side":"sell","timestamp":"2024-08-08T23:54:15.342Z"}"#
        );
        let ticker = |bid: &str| {
            format!(r#"{{"u":1,"s":"BTCUSDT","b":"{bid}","B":"3.78826000","a":"61837.64000000","A":"1.5"}}"#)
        };
        applied(&mut markets, "btcusdt@bookTicker", &ticker("61837.63000000"));
        let (room, data) = applied(&mut markets, "btcusdt@bookTicker", &ticker("61837.60000000"));
        assert_eq!(room, "price:BTC-USDT price_update");
        assert_eq!(
            data,
            r#"{"symbol":"BTC-USDT","price":61837.62,"change":-0.015,"volume":0.02,"timestamp":"2024-08-08T23:54:14.087Z"}"#
        );
        let depth = r#"{"e":"depthUpdate","E":1723161255208,"s":"ETHUSDT","U":1,"u":2,"b":[["1.10","2.0"],["1.20","0.00"]],"a":[["1.30","4.0"]]}"#;
        let (room, data) = applied(&mut markets, "ethusdt@depth@100ms", depth);
        assert_eq!(room, "orderbook:ETH-USDT order_book_update");
        assert_eq!(
            data,
            r#"{"symbol":"ETH-USDT","bids":[[1.10,2.0]],"asks":[[1.30,4.0]],"timestamp":"2024-08-08T23:54:15.208Z"}"#
        );
    }

    #[test]
    fn pairs_are_split_behind_the_base() {
        for (symbol, expected) in [
            ("BTCUSDT", "BTC-USDT"),
            ("ETHBTC", "ETH-BTC"),
            ("BTCFDUSD", "BTC-FDUSD"),
            ("USDT", "USDT"),
            ("XYZ", "XYZ"),
        ] {
            assert_eq!(pair(symbol), expected);
        }
        let names = HashMap::from([("BTCUSDT".to_owned(), "XBT-USD".to_owned())]);
        assert_eq!(Markets::new(names).pair("BTCUSDT"), "XBT-USD");
    }
}
