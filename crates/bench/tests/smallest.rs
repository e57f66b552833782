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

/// What it costs to bring blocks to all.
const COST: &[&str] = &[
    "redundancy",
    "wire",
    "net_cpu_per_useful_mb",
    "gross_cpu_per_useful_mb",
    "net_cpu_per_node_block",
    "net_cpu_per_node_block_same_copies",
    "net_cpu_per_wire_mb",
];

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
    assert_eq!(names(tables).len(), 6);
    check(&tables["push_phase"], COST);
    for ways in ["first_seen", "deliveries"] {
        check(&tables[ways], &["push", "pull", "transfer", "never"]);
        assert_eq!(tables[ways]["never"]["value"], 0.0);
    }
    for times in ["sight", "commit"] {
        check(&tables[times], &["p50", "p90", "p99", "max"]);
        assert_eq!(tables[times]["p99"]["machine_dependent"], true);
    }
    let max = |times: &str| tables[times]["max"]["value"].as_f64().unwrap();
    assert!(max("sight") <= max("commit"), "{tables:#}");
}

#[test]
fn throughput_delivers_every_block_under_each_load() {
    for (load, arguments) in [
        ("closed", ["--blocks", "20", "--window", "3"]),
        ("firehose", ["--blocks", "20", "--fanout", "1"]),
        ("open", ["--rate", "100", "--seconds", "0.1"]),
    ] {
        let mut all = vec![
            "c", "--nodes", "2", "--size", "1064", "--settle", "0", "--idle", "0", "--load", load,
        ];
        all.extend(arguments);
        let report = report(&all);
        assert_eq!(report["workload"], "C");
        assert_eq!(report["settings"]["load"], load);
        let tables = &report["tables"];
        check(&tables["throughput"], &["injected_per_second", "committed"]);
        check(&tables["cost"], COST);
        check(&tables["commit"], &["p50", "max"]);
        for ways in ["first_seen", "deliveries"] {
            check(&tables[ways], &["push", "pull", "transfer", "never"]);
        }
        if load != "open" {
            check(
                &tables["throughput"],
                &["committed_per_second", "useful_per_second"],
            );
            assert_eq!(tables["throughput"]["committed"]["value"], 1.0);
        }
    }
}

#[test]
fn a_new_node_gets_every_block() {
    let report = report(&[
        "d",
        "--sources",
        "1",
        "--blocks",
        "30",
        "--size",
        "1064",
        "--settle",
        "0",
    ]);
    assert_eq!(report["workload"], "D");
    let tables = &report["tables"];
    check(
        &tables["course"],
        &["first_commit", "last_commit", "blocks_per_second"],
    );
    assert_eq!(tables["course"]["first_commit"]["machine_dependent"], true);
    check(
        &tables["cost"],
        &["cpu_total", "cpu_per_block", "requests", "wire"],
    );
    assert!(tables["cost"]["requests"]["value"].as_f64() >= Some(1.0));
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
fn single_operations_have_their_columns() {
    let report = report(&[
        "f",
        "--each-ms",
        "1",
        "--samples",
        "3",
        "--elements",
        "1000",
        "--items",
        "20",
    ]);
    assert_eq!(report["workload"], "F");
    let tables = &report["tables"];
    check(
        &tables["signatures"],
        &["sign", "verify", "verify_as_identity"],
    );
    check(
        &tables["alive"],
        &["create", "receive", "receive_with_identity"],
    );
    check(
        &tables["identities"],
        &["put_known", "put_new", "get", "pki_id"],
    );
    for block in ["block_1064", "block_32440", "block_261815", "block_1048245"] {
        check(&tables[block], &["verify"]);
    }
    for store in [
        "store_thousandth",
        "store_hundredth",
        "store_tenth",
        "store",
    ] {
        check(&tables[store], &["check_new", "check_known", "add"]);
    }
    check(
        &tables["pull"],
        &["small_items", "small_items_bytes", "ten_blocks"],
    );
    assert_eq!(tables["pull"]["small_items_rounds"]["value"], 1.0);
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
        &["c", "--nodes", "65"],
        &["c", "--load", "endless"],
        &["d", "--sources", "0"],
        &["f", "--elements", "1000001"],
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
