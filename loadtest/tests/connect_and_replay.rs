//! `connect` and `replay` against the floor.

mod floor;

use std::fmt::Write;
use std::process::{Command, Output};

use floor::{Floor, LOADTEST};

/// A recording with `trades` trades of two pairs, and a few other messages.
fn recording(trades: usize) -> String {
    let mut text = String::new();
    for number in 0..trades {
        let (symbol, stream) = if number % 3 == 0 { ("ETHUSDT", "ethusdt") } else { ("BTCUSDT", "btcusdt") };
        let time = 1_723_161_255_000 + number;
        writeln!(
            text,
            r#"{{"recv_ns":{time}000000,"msg":{{"stream":"{stream}@trade","data":{{"e":"trade","E":{time},"s":"{symbol}","t":{number},"p":"{}.50000000","q":"0.10000000","T":{time},"m":{},"M":true}}}}}}"#,
            1_000 + number,
            number % 2 == 0,
        )
        .expect("text");
    }
    text.push_str(r#"{"recv_ns":1723161256000000000,"msg":{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"1.00","B":"1","a":"2.00","A":"1"}}}
{"recv_ns":1723161256000000000,"msg":{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":1,"u":2,"b":[["1.0","2"]],"a":[]}}}
{"recv_ns":1723161256000000000,"msg":{"stream":"btcusdt@kline_1m","data":{}}}
"#);
    text
}

fn replay(floor: &Floor, text: &str, options: &[&str]) -> Output {
    let file =
        std::env::temp_dir().join(format!("loadtest-replay-{}-{}", std::process::id(), floor.process.id()));
    std::fs::write(&file, text).expect("write");
    let output = Command::new(LOADTEST)
        .arg("replay")
        .arg(&file)
        .args(["--ingest", &floor.ingest, "--target", &format!("ws://{}/feed", floor.listen)])
        .args(options)
        .output()
        .expect("the binary runs");
    std::fs::remove_file(&file).expect("remove");
    output
}

#[test]
fn every_subscriber_gets_every_trade() {
    let floor = Floor::start(&["--batch", "8"]);
    let options = ["--check", "--subscribers", "7", "--speed", "max", "--token-secret", "s"];
    let output = replay(&floor, &recording(5_000), &options);
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    assert!(text.contains("5003 messages") && text.contains("5002 published"), "{text}");
    assert!(text.contains("5000 trades, 1 prices, 1 books; 1 skipped"), "{text}");
    assert!(text.contains("7 subscribers received every trade once and in order, 35000 in all"), "{text}");
}

#[test]
fn a_trade_from_elsewhere_is_a_fault() {
    use std::io::Write;
    let floor = Floor::start(&[]);
    let mut stranger = std::net::TcpStream::connect(&floor.ingest).expect("connect");
    let line =
        "{\"room\":\"trade:BTC-USDT\",\"event\":\"trade_notification\",\"data\":{\"symbol\":\"BTC-USDT\"}}\n";
    let output = std::thread::scope(|scope| {
        let run = scope.spawn(|| replay(&floor, &recording(1_000), &["--check", "--speed", "1"]));
        while !run.is_finished() {
            stranger.write_all(line.as_bytes()).expect("write");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        run.join().expect("no panic")
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("of BTC-USDT: received"), "{errors}");
}

#[test]
fn speed_follows_the_recording() {
    let floor = Floor::start(&[]);
    let start = std::time::Instant::now();
    // 1 s of capture time at 4 times its speed
    let output = replay(&floor, &recording(900), &["--speed", "4"]);
    assert!(output.status.success());
    let seconds = start.elapsed().as_secs_f64();
    assert!((0.2..5.0).contains(&seconds), "{seconds} s");
}

#[test]
fn a_bad_line_is_named() {
    let floor = Floor::start(&[]);
    let text = recording(3).replacen("1001.50000000", "1e3", 1);
    let output = replay(&floor, &text, &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("line 2: `1e3` is not a plain decimal number"), "{errors}");
}

#[test]
fn idle_connections_are_measured() {
    let floor = Floor::start(&[]);
    let output = Command::new(LOADTEST)
        .args(["connect", "--connections", "300", "--hold", "0.2", "--json", "--room", "bench:{index}"])
        .args(["--target", &format!("ws://{}/feed", floor.listen), "--token-secret", "s"])
        .args(["--server-pid", &floor.process.id().to_string()])
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["connections"], 300);
    let cpu = value["server_cpu_us_per_handshake"].as_f64().expect("measured");
    assert!((0.1..10_000.0).contains(&cpu), "{value}");
    assert!(value["server_private_dirty_per_connection"].as_f64() < Some(50_000.0), "{value}");
}

#[test]
fn all_come_back_after_each_wave() {
    let floor = Floor::start(&[]);
    let output = Command::new(LOADTEST)
        .args(["connect", "--connections", "200", "--waves", "3", "--json", "--token-secret", "s"])
        .args(["--target", &format!("ws://{}/feed", floor.listen)])
        .args(["--server-pid", &floor.process.id().to_string()])
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let waves = value["waves"].as_array().expect("waves");
    assert_eq!(waves.len(), 3);
    for wave in waves {
        assert!(wave["seconds"].as_f64() > Some(0.0), "{value}");
        assert!(wave["server_cpu_us_per_reconnect"].as_f64() > Some(0.1), "{value}");
    }
}

/// Plays a Socket.IO server to one client; returns what the client sent.
fn socketio_server(listener: &std::net::TcpListener, answers: [&str; 2]) -> Vec<String> {
    let (stream, _) = listener.accept().expect("accept");
    let mut server = tungstenite::accept(stream).expect("upgrade");
    let mut heard = Vec::new();
    server.send(r#"0{"sid":"x","pingInterval":25000}"#.into()).expect("send");
    heard.push(server.read().expect("CONNECT").to_string());
    server.send(answers[0].into()).expect("send");
    server.send("2".into()).expect("send");
    while heard.len() < 3 {
        let Ok(message) = server.read() else { break };
        heard.push(message.to_string());
    }
    let _ = server.send(answers[1].into());
    while server.read().is_ok() {}
    heard.sort();
    heard
}

#[test]
fn socketio_clients_enter_the_namespace_first() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let target = format!("ws://{}", listener.local_addr().expect("address"));
    let connect = || {
        Command::new(LOADTEST)
            .args(["connect", "--connections", "1", "--socketio", "--room", "chart:BTC", "--token", "T"])
            .args(["--target", &target])
            .output()
            .expect("the binary runs")
    };
    let run = |answers: [&'static str; 2]| {
        std::thread::scope(|scope| {
            let server = scope.spawn(|| socketio_server(&listener, answers));
            let output = connect();
            (output, server.join().expect("no panic"))
        })
    };
    let (output, heard) = run([r#"40{"sid":"y"}"#, r#"42["room_joined",{"room":"chart:BTC"}]"#]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(heard, ["3", r#"40{"token":"T"}"#, r#"42["join_room",{"room":"chart:BTC"}]"#]);

    let (output, _) = run([r#"44{"message":"401 no"}"#, ""]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("401 no"));
    let (output, _) = run([r#"40{"sid":"y"}"#, r#"42["error",{"code":"ROOM_NOT_FOUND"}]"#]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ROOM_NOT_FOUND"));
}
