//! The smallest run of each workload: it ends, and its report has the columns of the baseline. No
//! figure is judged; a loaded machine passes like an idle one.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Command;

use serde_json::Value;

/// Runs a command of the bench with a short look at the floor, and reads its report.
fn report(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_tidings-bench"))
        .args(["--floor-ms", "5"])
        .args(arguments)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The names in an object.
fn names(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// Every figure says what it is, every time by the clock says that it depends on the machine, and
/// these are there.
fn check(table: &Value, columns: &[&str]) {
    for column in columns {
        assert!(table.get(column).is_some(), "no {column} in {table:#}");
    }
    for (name, figure) in table.as_object().unwrap() {
        assert!(figure["value"].is_number(), "{name}: {figure}");
        assert!(figure["unit"].is_string(), "{name}: {figure}");
        let both = figure.get("floor").is_some() || figure.get("ratio").is_none();
        assert!(both, "{name}: {figure}");
    }
}

#[test]
fn the_floor_is_measured() {
    let report = report(&["floor"]);
    assert_eq!(report["workload"], "floor");
    let floor = report["floor"].as_object().unwrap();
    for name in [
        "aes_128_gcm_us_per_mb",
        "aes_256_gcm_us_per_mb",
        "p256_sign_us",
        "p256_verify_us",
        "sha256_us_per_mb",
        "tcp_loopback_ms_per_mb",
        "tls_handshake_ms",
        "tls_loopback_ms_per_mb",
    ] {
        assert!(floor[name].as_f64().unwrap() > 0.0, "{name}");
    }
}

#[test]
fn membership_has_its_columns() {
    let report = report(&["a", "--nodes", "2", "--settle", "0", "--idle", "0.1"]);
    assert_eq!(report["workload"], "A");
    assert_eq!(report["settings"]["nodes"], 2);
    check(
        &report["tables"]["join"],
        &[
            "converged",
            "channel_view",
            "cpu_total",
            "cpu_per_node",
            "messages_per_node",
            "payload_per_node",
            "wire_per_node",
            "connections_accepted",
        ],
    );
    check(
        &report["tables"]["idle"],
        &[
            "cpu_per_node_second",
            "messages_per_node_second",
            "payload_per_node_second",
            "wire_per_node_second",
        ],
    );
    let join = &report["tables"]["join"];
    assert_eq!(join["converged"]["machine_dependent"], true);
    assert!(join["wire_per_node"]["value"].as_f64() > join["payload_per_node"]["value"].as_f64());
}

#[test]
fn dissemination_delivers_every_block_and_has_its_columns() {
    let report = report(&[
        "b", "--nodes", "2", "--blocks", "3", "--size", "1064", "--rate", "50", "--settle", "0",
        "--idle", "0.1",
    ]);
    assert_eq!(report["workload"], "B");
    let tables = &report["tables"];
    assert_eq!(names(tables).len(), 3);
    check(
        &tables["push_phase"],
        &[
            "redundancy",
            "wire",
            "net_cpu_per_useful_mb",
            "gross_cpu_per_useful_mb",
            "net_cpu_per_node_block",
            "net_cpu_per_node_block_same_copies",
        ],
    );
    check(
        &tables["deliveries"],
        &["push", "pull", "transfer", "never"],
    );
    assert_eq!(tables["deliveries"]["never"]["value"], 0.0);
    check(&tables["commit"], &["p50", "p90", "p99", "max"]);
    assert_eq!(tables["commit"]["p99"]["machine_dependent"], true);
}

#[test]
fn messages_arrive_and_have_their_columns() {
    let report = report(&["e", "--small", "100", "--large", "100", "--handshakes", "8"]);
    assert_eq!(report["workload"], "E");
    for name in ["messages_205", "messages_10245"] {
        let table = &report["tables"][name];
        check(
            table,
            &["cpu_per_message", "messages_per_second", "wire_per_message"],
        );
        assert_eq!(table["dropped"]["value"], 0.0);
        assert!(table["cpu_per_message"]["ratio"].is_number());
    }
    for name in ["handshakes_one_at_a_time", "handshakes_eight_at_a_time"] {
        check(
            &report["tables"][name],
            &["cpu_each", "per_second", "wire_each"],
        );
    }
}

#[test]
fn loads_are_bounded() {
    for arguments in [
        &["a", "--nodes", "257"][..],
        &["a", "--nodes", "1"],
        &["b", "--blocks", "0"],
        &["b", "--size", "16777217"],
        &["b", "--rate", "0"],
        &["a", "--idle", "-1"],
        &["e", "--small", "10000001"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidings-bench"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_tidings-bench"))
        .args([
            "b",
            "--floor-ms",
            "1",
            "--size",
            "1048245",
            "--blocks",
            "300",
        ])
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && complaint.contains("fewer"),
        "{complaint}"
    );
}
