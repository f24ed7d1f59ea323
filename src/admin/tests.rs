//! The admin port over real sockets, before a broker of fixed figures.

use std::io::{Read, Write};
use std::sync::atomic::AtomicU64;

use super::*;
use crate::audience::App;
use crate::metrics::latency::LatencyRecorder;
use crate::time::monotonic;

/// Counters that a test sets, and one recorder for each shard.
struct Fixed {
    shards: Vec<Arc<ShardMetrics>>,
    router: RouterMetrics,
    recorders: Mutex<Vec<LatencyRecorder>>,
    drains: AtomicU64,
    bodies: Mutex<Vec<Vec<u8>>>,
    outcome: Mutex<Result<Published, PublishError>>,
}

impl Control for Fixed {
    fn shards(&self) -> &[Arc<ShardMetrics>] {
        &self.shards
    }

    fn router(&self) -> &RouterMetrics {
        &self.router
    }

    fn collect_latencies(&self, spares: Vec<Box<Latencies>>) -> Vec<(usize, Box<Latencies>)> {
        let mut recorders = self.recorders.lock();
        let swapped = recorders.iter_mut().zip(spares).map(|(recorder, spare)| recorder.swap(spare));
        swapped.enumerate().collect()
    }

    fn top_rooms(&self, limit: usize) -> Vec<(String, u64)> {
        let rooms = [("price:BTC-USDC", 2_041), ("price:\"odd\"", 7)];
        rooms.into_iter().take(limit).map(|(room, count)| (room.to_owned(), count)).collect()
    }

    fn publish(&self, lines: Vec<u8>) -> Result<Published, PublishError> {
        self.bodies.lock().push(lines);
        self.outcome.lock().clone()
    }

    fn drain(&self) {
        self.drains.fetch_add(1, Ordering::AcqRel);
    }

    fn draining(&self) -> bool {
        self.drains.load(Ordering::Acquire) > 0
    }
}

/// A running port with two shards that have just turned.
fn start(token: &str) -> (AdminServer, Arc<Fixed>) {
    let shards: Vec<Arc<ShardMetrics>> = (0..2).map(|_| Arc::default()).collect();
    for shard in &shards {
        shard.last_turn.set(monotonic());
    }
    let fixed = Arc::new(Fixed {
        recorders: Mutex::new(shards.iter().map(|_| LatencyRecorder::new()).collect()),
        shards,
        router: RouterMetrics::default(),
        drains: AtomicU64::new(0),
        bodies: Mutex::default(),
        outcome: Mutex::new(Ok(Published::default())),
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let settings = AdminSettings { token: token.to_owned() };
    let control: Arc<dyn Control> = fixed.clone();
    (AdminServer::start(listener, settings, control).expect("starts"), fixed)
}

fn connect(server: &AdminServer) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    stream
}

/// One answer: status, header fields as sent, body.
fn read_answer(stream: &mut TcpStream) -> (u16, String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("more of the head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .and_then(|length| length.parse().ok())
        .expect("a length");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    (status, head, String::from_utf8(body).expect("text"))
}

/// Sends `request` on a connection of its own.
fn ask(server: &AdminServer, request: &str) -> (u16, String, String) {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).expect("sent");
    read_answer(&mut stream)
}

fn get(server: &AdminServer, path: &str) -> (u16, String, String) {
    ask(server, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
}

fn post(server: &AdminServer, path: &str, body: &str) -> (u16, String, String) {
    ask(server, &format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// The code of an error body; checks that there is a message.
fn code(body: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert!(body["error"]["message"].as_str().is_some_and(|message| message.len() > 5), "{body}");
    body["error"]["code"].as_str().expect("a code").to_owned()
}

#[test]
fn a_scrape_shows_counters_and_collects_latencies() {
    let (server, fixed) = start("");
    fixed.shards[1].connections[App::Market.index()][0].add(12);
    fixed.recorders.lock()[1].end_to_end(2_000_000, 30);
    for scrape in 1..=2 {
        let (status, head, body) = get(&server, "/metrics?name=x");
        assert_eq!(status, 200);
        assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
        assert!(body.contains("fanfare_connections{app=\"market\",transport=\"websocket\"} 12\n"));
        // Also on the second scrape, when the shard's own histograms are empty again.
        assert!(body.contains("fanfare_end_to_end_seconds_count 30\n"), "scrape {scrape}");
    }
    server.stop();
}

#[test]
fn a_stalled_shard_is_named() {
    let (server, fixed) = start("");
    assert_eq!(get(&server, "/healthz").0, 200);
    let second = 1_000_000_000;
    fixed.shards[0].last_turn.set(20 * second);
    fixed.shards[1].last_turn.set(15 * second);
    assert_eq!(routes::health(&fixed.shards, 20 * second).status, 200);
    let answer = routes::health(&fixed.shards, 21 * second).encode(false, true);
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("SHARD_STALLED"), "{answer}");
    assert!(answer.contains("shard 1 has not finished a turn for 6.0 s"), "{answer}");
    assert!(!answer.contains("shard 0"), "{answer}");
}

#[test]
fn a_drain_is_passed_on_and_ends_readiness() {
    let (server, fixed) = start("");
    assert_eq!(get(&server, "/readyz").0, 200);
    assert_eq!(get(&server, "/drain").0, 405);
    assert_eq!(fixed.drains.load(Ordering::Acquire), 0);
    assert_eq!(post(&server, "/drain", "").0, 202);
    assert_eq!(fixed.drains.load(Ordering::Acquire), 1);
    let (status, _, body) = get(&server, "/readyz");
    assert_eq!((status, code(&body).as_str()), (503, "DRAINING"));
    assert_eq!(get(&server, "/healthz").0, 200, "still alive");
}

#[test]
fn the_statistics_add_up() {
    let (server, fixed) = start("");
    fixed.shards[0].connections[App::Market.index()][0].add(3);
    fixed.shards[1].connections[App::Account.index()][0].add(4);
    fixed.router.known_rooms.set(9);
    let (status, _, body) = get(&server, "/stats");
    assert_eq!(status, 200);
    let stats: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(stats["connections"]["total"], 7);
    assert_eq!(stats["connections"]["by_app"]["account"], 4);
    assert_eq!(stats["connections"]["by_transport"]["websocket"], 7);
    assert_eq!(stats["connections"]["by_shard"], serde_json::json!([3, 4]));
    assert_eq!(stats["rooms"]["known"], 9);
    assert_eq!(stats["rooms"]["top"][1]["room"], "price:\"odd\"");
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(stats["draining"], false);
}

#[test]
fn rates_are_counts_per_second_of_the_last_interval() {
    let (server, fixed) = start("");
    let mut sampler = RateSampler::new(&*fixed, 1_000_000_000);
    fixed.shards[0].deliveries[0].add(500);
    fixed.shards[1].deliveries[1].add(500);
    fixed.router.ingest_messages[0].add(20);
    fixed.router.ingest_messages[crate::metrics::IngestResult::Operation as usize].add(1_000);
    sampler.sample(&*fixed, 3_000_000_000);
    let rates = serde_json::to_value(sampler.rates()).expect("JSON");
    assert_eq!(rates["interval_seconds"], 2.0);
    assert_eq!(rates["deliveries"], 500.0);
    assert_eq!(rates["published"], 10.0);
    sampler.sample(&*fixed, 4_000_000_000);
    assert_eq!(serde_json::to_value(sampler.rates()).expect("JSON")["deliveries"], 0.0);
    drop(server);
}

#[test]
fn a_publish_is_answered_line_by_line_and_summed_up() {
    let (server, fixed) = start("");
    let line = "{\"id\":\"7f3a\",\"ok\":true}\n";
    *fixed.outcome.lock() =
        Ok(Published { lines: line.as_bytes().to_vec(), total: 3, accepted: 2, rejected: 1 });
    let (status, head, body) = post(&server, "/publish", "{\"a\":1}\nx\n{}");
    assert_eq!(status, 200);
    assert!(head.contains("application/x-ndjson"), "{head}");
    let summary = body.strip_prefix(line).expect("the result line first");
    assert_eq!(summary, "{\"ok\":false,\"lines\":3,\"accepted\":2,\"rejected\":1}\n");
    assert_eq!(*fixed.bodies.lock(), [b"{\"a\":1}\nx\n{}".to_vec()]);

    for (error, expected) in [
        (PublishError::Overloaded, (503, "RATE_LIMITED")),
        (PublishError::Draining, (503, "DRAINING")),
        (PublishError::TimedOut, (504, "TIMEOUT")),
    ] {
        *fixed.outcome.lock() = Err(error);
        let (status, _, body) = post(&server, "/publish", "{}");
        assert_eq!((status, code(&body).as_str()), expected);
    }
}

#[test]
fn a_body_is_bounded_and_asked_for_when_the_client_waits() {
    let (server, fixed) = start("");
    let (status, head, body) = post(&server, "/publish", &"x".repeat(PUBLISH_BYTES + 1));
    assert_eq!((status, code(&body).as_str()), (413, "MESSAGE_TOO_LARGE"));
    assert!(head.contains("Connection: close"), "{head}");
    assert!(fixed.bodies.lock().is_empty());
    assert_eq!(post(&server, "/publish", &"x".repeat(PUBLISH_BYTES)).0, 200);
    assert_eq!(fixed.bodies.lock().len(), 1);

    let mut stream = connect(&server);
    let head = "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).expect("an interim answer");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").expect("sent");
    assert_eq!(read_answer(&mut stream).0, 200);
    assert_eq!(fixed.bodies.lock()[1], b"body");

    let chunked = "POST /publish HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(ask(&server, chunked).0, 411);
}

#[test]
fn the_token_guards_everything_but_the_probes() {
    let (server, fixed) = start("s3cret");
    for path in ["/metrics", "/stats"] {
        let (status, head, body) = get(&server, path);
        assert_eq!((status, code(&body).as_str()), (401, "AUTH_REQUIRED"));
        assert!(head.contains("WWW-Authenticate: Bearer"), "{head}");
    }
    for authorization in ["Bearer wrong", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "Bearer", ""] {
        let request = format!("GET /stats HTTP/1.1\r\nAuthorization: {authorization}\r\n\r\n");
        assert_eq!(ask(&server, &request).0, 401, "{authorization}");
    }
    assert_eq!(ask(&server, "GET /stats HTTP/1.1\r\nauthorization: bearer s3cret\r\n\r\n").0, 200);
    assert_eq!(post(&server, "/publish", "{}").0, 401);
    assert_eq!(post(&server, "/drain", "").0, 401);
    assert!(fixed.bodies.lock().is_empty() && !fixed.draining());
    assert_eq!(get(&server, "/healthz").0, 200);
    assert_eq!(get(&server, "/readyz").0, 200);
}

#[test]
fn web_pages_unknown_paths_and_wrong_methods_are_refused() {
    let (server, fixed) = start("");
    let from_a_page = "POST /drain HTTP/1.1\r\nHost: a\r\nOrigin: https://x.example\r\n\r\n";
    let (status, _, body) = ask(&server, from_a_page);
    assert_eq!((status, code(&body).as_str()), (403, "ACCESS_DENIED"));
    assert!(!fixed.draining());
    assert_eq!(get(&server, "/nowhere").0, 404);
    let (status, head, _) = post(&server, "/metrics", "");
    assert!(status == 405 && head.contains("Allow: GET, HEAD"), "{head}");
    assert_eq!(ask(&server, "\x16\x03\x01 not http\r\n\r\n").0, 400);
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
    assert_eq!(ask(&server, &long).0, 431);
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let (server, _) = start("");
    let mut stream = connect(&server);
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\n\r\nPOST /publish HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET /nowhere HTTP/1.1\r\n\r\n")
        .expect("sent");
    assert_eq!(read_answer(&mut stream).0, 200);
    assert_eq!(read_answer(&mut stream).0, 200);
    assert_eq!(read_answer(&mut stream).0, 404);
    stream.write_all(b"HEAD /readyz HTTP/1.1\r\nConnection: close\r\n\r\n").expect("sent");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("closed by the port");
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n\r\n"), "no body: {rest}");
}

#[test]
fn connections_are_bounded_and_come_back() {
    let (server, _) = start("");
    let mut silent: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(&server)).collect();
    while server.shared.open.load(Ordering::Acquire) < CONNECTIONS {
        thread::sleep(Duration::from_millis(1));
    }
    let (status, head, body) = read_answer(&mut connect(&server));
    assert_eq!((status, code(&body).as_str()), (503, "OVERLOADED"));
    assert!(head.contains("Retry-After: 1"), "{head}");

    // With more than half of the places taken, an answered connection is not kept.
    let mut last = silent.pop().expect("one");
    last.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").expect("sent");
    let (status, head, _) = read_answer(&mut last);
    assert!(status == 200 && head.contains("Connection: close"), "{head}");
    drop((silent, last));
    while server.shared.open.load(Ordering::Acquire) > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(get(&server, "/readyz").0, 200);
}

#[test]
fn stopping_does_not_wait_for_idle_connections() {
    let (server, _) = start("");
    let address = server.address();
    let mut kept = connect(&server);
    kept.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").expect("sent");
    assert!(read_answer(&mut kept).1.contains("Connection: keep-alive"));
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(kept.read(&mut [0; 1]).expect("an orderly end"), 0);
    assert!(TcpStream::connect(address).is_err());
}
