//! The real binary against itself: the floor in each of its forms, measured by
//! `fanout` on free ports for a moment. Nothing may be lost, and the numbers
//! must be possible.

mod floor;

use std::process::Command;

use floor::{Floor, LOADTEST};
use serde_json::Value;

trait Measured {
    fn fanout(&self, options: &[&str]) -> std::process::Output;
    /// Publishes to this floor, subscribes at `target`.
    fn fanout_to(&self, target: &str, pid: u32, options: &[&str]) -> std::process::Output;
    fn measure(&self, options: &[&str]) -> Value;
}

impl Measured for Floor {
    fn fanout(&self, options: &[&str]) -> std::process::Output {
        let target = format!("ws://{}/feed", self.listen);
        self.fanout_to(&target, self.process.id(), options)
    }

    fn fanout_to(&self, target: &str, pid: u32, options: &[&str]) -> std::process::Output {
        Command::new(LOADTEST)
            .args(["fanout", "--json", "--quiet", "--duration", "0.5", "--warmup", "0.1"])
            .args(["--target", target, "--ingest", &self.ingest])
            .args(["--server-pid", &pid.to_string()])
            .args(options)
            .output()
            .expect("the binary runs")
    }

    fn measure(&self, options: &[&str]) -> Value {
        let output = self.fanout(options);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        for zero in ["lost", "duplicated", "reordered", "misdirected", "other_messages"] {
            assert_eq!(value[zero], 0, "{zero}: {value}");
        }
        assert!(value["deliveries"].as_u64() > Some(100), "{value}");
        value
    }
}

#[test]
fn every_form_of_the_floor_delivers_everything_once() {
    let forms: [&[&str]; 4] =
        [&[], &["--batch", "64"], &["--batch", "8", "--gather"], &["--batch", "16", "--pace", "1ms"]];
    for form in forms {
        let floor = Floor::start(form);
        let one_room = floor.measure(&["--connections", "40", "--window", "32", "--token-secret", "s"]);
        let (deliveries, published) = (one_room["deliveries"].as_u64(), one_room["published"].as_u64());
        let ratio = deliveries.expect("count") as f64 / published.expect("count") as f64;
        assert!((35.0..45.0).contains(&ratio), "40 subscribers, {ratio} deliveries per event: {form:?}");
        let cpu = one_room["server_cpu_ns_per_delivery"].as_f64().expect("measured");
        assert!((1.0..1e6).contains(&cpu), "{cpu} ns per delivery");
        let latency = &one_room["latency_us"];
        assert!(latency["p50"].as_f64() <= latency["p99"].as_f64(), "{latency}");
        assert!(latency["p50"].as_f64() > Some(0.0), "{latency}");

        let many = ["--connections", "60", "--rooms", "20", "--rooms-per-connection", "5", "--zipf", "1"];
        floor.measure(&[&many[..], &["--window", "50"]].concat());
    }
}

#[test]
fn a_schedule_is_kept_and_private_rooms_are_private() {
    let floor = Floor::start(&[]);
    let result =
        floor.measure(&["--connections", "50", "--rooms", "50", "--rate", "2000", "--spin", "never"]);
    let rate = result["publish_rate"].as_f64().expect("measured");
    assert!((1_900.0..2_100.0).contains(&rate), "{rate} events/s");
    let (deliveries, published) = (result["deliveries"].as_i64(), result["published"].as_i64());
    assert!((deliveries.expect("count") - published.expect("count")).abs() < 500, "{result}");
}

#[test]
fn stalled_connections_hold_nothing_up() {
    let floor = Floor::start(&["--batch", "16"]);
    let result = floor.measure(&["--connections", "100", "--stalled", "10", "--window", "16"]);
    assert_eq!(result["stalled"], 10);
}

#[test]
fn other_protocols_can_be_spoken() {
    let floor = Floor::start(&[]);
    let subscribe = r#"{"data":{"room":"{room}"},"event":"join_room"}"#;
    let line = r#"{"event":"{event}","room":"x{index}","data":{"wrapped":{data}},"ts":1}"#;
    floor.measure(&[
        "--connections",
        "3",
        "--rooms",
        "3",
        "--room-prefix",
        "x",
        "--subscribe",
        subscribe,
        "--publish-line",
        line,
        "--path",
        "/elsewhere?a=b",
    ]);
}

#[test]
fn failures_are_explained() {
    let floor = Floor::start(&[]);
    let explain = |output: std::process::Output| {
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = |options: &[&str]| explain(floor.fanout(options));
    let nobody = explain(floor.fanout_to("ws://127.0.0.1:1/", floor.process.id(), &[]));
    assert!(nobody.contains("is the server running?"), "{nobody}");
    let target = format!("ws://{}/", floor.listen);
    let process = explain(floor.fanout_to(&target, 999_999_999, &[]));
    assert!(process.contains("--server-pid 999999999"), "{process}");
    let limit = told(&["--connections", "100000000"]);
    assert!(limit.contains("open files"), "{limit}");
    let sense = told(&["--rooms-per-connection", "3"]);
    assert!(sense.contains("--rooms 1"), "{sense}");
}

#[test]
fn a_refused_upgrade_names_the_status() {
    use std::io::{Read, Write};
    let floor = Floor::start(&[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let target = format!("ws://{}/feed", listener.local_addr().expect("address"));
    listener.set_nonblocking(true).expect("nonblocking");
    let client = std::thread::scope(|scope| {
        let client = scope.spawn(|| floor.fanout_to(&target, floor.process.id(), &["--connections", "1"]));
        while !client.is_finished() {
            let Ok((mut stream, _)) = listener.accept() else {
                std::thread::yield_now();
                continue;
            };
            stream.set_nonblocking(false).expect("blocking");
            let _ = stream.read(&mut [0; 4096]);
            let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 13\r\n\r\nAUTH_REQUIRED";
            stream.write_all(answer.as_bytes()).expect("write");
        }
        client.join().expect("no panic")
    });
    let text = String::from_utf8_lossy(&client.stderr);
    assert_eq!(client.status.code(), Some(1));
    assert!(text.contains("401 Unauthorized") && text.contains("AUTH_REQUIRED"), "{text}");
}
