//! `compare` and `ingest` with the floor in each part.

mod floor;

use std::process::{Command, Output};

use floor::{Floor, LOADTEST};
use serde_json::Value;

/// A short comparison; without pinning errors where there is one core only.
fn compare(options: &[&str]) -> Output {
    Command::new(LOADTEST)
        .args(["compare", "--json", "--pairs", "1", "--duration", "0.3", "--warmup", "0.1"])
        .args(options)
        .output()
        .expect("the binary runs")
}

fn failure(options: &[&str]) -> String {
    let output = compare(options);
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_peer_takes_turns_with_the_floor() {
    let peer = format!("{LOADTEST} floor --listen {{listen}} --ingest 127.0.0.1:{{ingest-port}}");
    let load = ["--", "--connections", "20"];
    let output = compare(&[&["--workload", "A", "--peer", &peer], &load[..]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let order: Vec<&str> =
        value["runs"].as_array().expect("runs").iter().filter_map(|run| run["program"].as_str()).collect();
    assert_eq!(order, ["floor", "peer", "floor again"]);
    for program in order {
        let cpu = value["programs"][program]["cpu_ns_per_delivery"]["median"].as_f64();
        assert!(cpu.expect("measured") > 1.0, "{value}");
        assert_eq!(value["programs"][program]["lost"], 0);
    }
    assert!(value["cpu_ratios"]["peer/floor"]["median"].as_f64() > Some(0.0), "{value}");
    assert!(value["floor_spread"].as_f64() >= Some(1.0), "{value}");
    assert_eq!(value["targets"].as_array().map(Vec::len), Some(0));
    assert!(errors.contains("peer / floor"), "{errors}");
}

#[test]
fn under_tls_everything_arrives_too() {
    let peer = format!(
        "{LOADTEST} floor --batch 8 --listen {{listen}} --ingest {{ingest}} --tls-cert {{cert}} --tls-key {{key}}"
    );
    let load = ["--", "--connections", "30"];
    let output = compare(&[&["--workload", "B", "--tls", "--peer", &peer], &load[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for program in ["floor", "peer"] {
        let measured = &value["programs"][program];
        assert_eq!((&measured["lost"], &measured["duplicated"]), (&0.into(), &0.into()), "{value}");
        assert!(measured["cpu_ns_per_delivery"]["median"].as_f64() > Some(1.0), "{value}");
    }
}

#[test]
fn what_goes_wrong_is_explained() {
    let missing = failure(&["--workload", "A"]);
    assert!(missing.contains("--server"), "{missing}");
    let nothing = failure(&["--workload", "A", "--server", "/nonexistent/fanfare"]);
    assert!(nothing.contains("--server /nonexistent/fanfare: cannot be found"), "{nothing}");
    let ends = failure(&[
        "--workload",
        "A",
        "--peer",
        &format!("{LOADTEST} floor --wrong {{listen}}"),
        "--",
        "--connections",
        "2",
    ]);
    assert!(ends.contains("peer ended at its start") && ends.contains("--wrong"), "{ends}");
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        let core = failure(&["--workload", "A", "--peer", "x", "--server-core", "1", "--load-core", "1"]);
        assert!(core.contains("are both 1"), "{core}");
        let core = failure(&["--workload", "A", "--peer", "x", "--server-core", "1000"]);
        assert!(core.contains("--server-core 1000: this process may use"), "{core}");
    }
}

#[test]
fn lines_that_nobody_gets_are_counted() {
    let floor = Floor::start(&[]);
    let output = Command::new(LOADTEST)
        .args(["ingest", "--json", "--lines", "50001", "--rooms", "70", "--ingest", &floor.ingest])
        .args(["--server-pid", &floor.process.id().to_string()])
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["lines"], 50_001);
    assert!(value["lines_per_s"].as_f64() > Some(1_000.0), "{value}");
    let cpu = value["server_cpu_ns_per_line"].as_f64().expect("measured");
    assert!((1.0..1e6).contains(&cpu), "{value}");
    // and the server goes on
    let target = format!("ws://{}/feed", floor.listen);
    let connect =
        Command::new(LOADTEST).args(["connect", "--connections", "1", "--target", &target]).output();
    assert!(connect.expect("the binary runs").status.success());
}

#[test]
fn a_refused_line_is_shown() {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("accept");
            stream
                .write_all(b"{\"ok\":false,\"line\":1,\"error\":{\"code\":\"ROOM_NOT_FOUND\"}}\n")
                .expect("write");
            let mut lines = BufReader::new(stream.try_clone().expect("clone")).lines();
            assert!(lines.any(|line| line.is_ok_and(|line| line.contains("ping"))));
            stream.write_all(b"{\"op\":\"pong\"}\n").expect("write");
        });
        Command::new(LOADTEST)
            .args(["ingest", "--lines", "100", "--ingest", &address])
            .output()
            .expect("the binary runs")
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("1 lines were refused") && text.contains("ROOM_NOT_FOUND"), "{text}");
}
