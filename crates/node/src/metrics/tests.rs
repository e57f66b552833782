//! Names are what others hold on to: what Fabric has, and what the page for operators lists.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What a Go peer of Fabric 3 shows that this node knows, too: name, type, labels, and for a
/// histogram its buckets.
const OF_FABRIC: &[(&str, &str, &[&str], &[f64])] = &[
    (
        "deliver_blocks_sent",
        "counter",
        &["channel", "filtered", "data_type"],
        &[],
    ),
    (
        "deliver_requests_received",
        "counter",
        &["channel", "filtered", "data_type"],
        &[],
    ),
    ("deliver_streams_closed", "counter", &[], &[]),
    ("deliver_streams_opened", "counter", &[], &[]),
    ("endorser_proposals_received", "counter", &[], &[]),
    ("endorser_successful_proposals", "counter", &[], &[]),
    ("fabric_version", "gauge", &["version"], &[]),
    ("gossip_comm_messages_received", "counter", &[], &[]),
    ("gossip_comm_messages_sent", "counter", &[], &[]),
    ("gossip_comm_overflow_count", "counter", &[], &[]),
    ("gossip_leader_election_leader", "gauge", &["channel"], &[]),
    (
        "gossip_membership_total_peers_known",
        "gauge",
        &["channel"],
        &[],
    ),
    ("gossip_payload_buffer_size", "gauge", &["channel"], &[]),
    (
        "gossip_privdata_commit_block_duration",
        "histogram",
        &["channel"],
        SECONDS,
    ),
    (
        "gossip_privdata_fetch_duration",
        "histogram",
        &["channel"],
        SECONDS,
    ),
    (
        "gossip_privdata_list_missing_duration",
        "histogram",
        &["channel"],
        SECONDS,
    ),
    (
        "gossip_privdata_pull_duration",
        "histogram",
        &["channel"],
        SECONDS,
    ),
    (
        "gossip_privdata_purge_duration",
        "histogram",
        &["channel"],
        SECONDS,
    ),
    (
        "gossip_privdata_reconciliation_duration",
        "histogram",
        &["channel"],
        SECONDS,
    ),
    (
        "gossip_privdata_retrieve_duration",
        "histogram",
        &["channel"],
        SECONDS,
    ),
    (
        "gossip_state_commit_duration",
        "histogram",
        &["channel"],
        SECONDS,
    ),
    ("gossip_state_height", "gauge", &["channel"], &[]),
    ("grpc_comm_conn_closed", "counter", &[], &[]),
    ("grpc_comm_conn_opened", "counter", &[], &[]),
    ("ledger_blockchain_height", "gauge", &["channel"], &[]),
    (
        "ledger_blockstorage_commit_time",
        "histogram",
        &["channel"],
        &[0.005, 0.01, 0.015, 0.05, 0.1, 1.0, 10.0],
    ),
];

const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

fn type_name(kind: &str) -> &'static str {
    match kind {
        "IntGauge" | "IntGaugeVec" => "gauge",
        "IntCounter" | "IntCounterVec" => "counter",
        "Histogram" | "HistogramVec" => "histogram",
        other => panic!("{other} is a new kind"),
    }
}

/// The upper ends of the buckets of a histogram, as text.
fn buckets(text: &str, name: &str) -> Vec<f64> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix("_bucket"));
    lines
        .filter_map(|line| {
            let (_, end) = line.split_once("le=\"")?;
            end.split_once('"')?.0.parse().ok()
        })
        .filter(|end: &f64| end.is_finite())
        .collect()
}

#[test]
fn fabrics_metrics_have_fabrics_types_labels_and_buckets() {
    let metrics = Metrics::new();
    for histogram in [
        &metrics.commit_duration,
        &metrics.ledger_commit_time,
        &metrics.privdata_commit_block_duration,
        &metrics.privdata_fetch_duration,
        &metrics.privdata_list_missing_duration,
        &metrics.privdata_pull_duration,
        &metrics.privdata_purge_duration,
        &metrics.privdata_reconciliation_duration,
        &metrics.privdata_retrieve_duration,
    ] {
        histogram.with_label_values(&["ch"]).observe(0.02);
    }
    let text = metrics.text();
    let known: Vec<_> = ALL
        .iter()
        .filter(|(name, ..)| !name.starts_with("tidings_"))
        .collect();
    assert_eq!(known.len(), OF_FABRIC.len());
    for (name, kind, labels) in known {
        let fabrics = OF_FABRIC.iter().find(|(fabrics, ..)| fabrics == name);
        let (_, fabrics_kind, fabrics_labels, fabrics_buckets) = fabrics.unwrap();
        assert_eq!(type_name(kind), *fabrics_kind, "{name}");
        assert_eq!(labels, fabrics_labels, "{name}");
        assert_eq!(buckets(&text, name), *fabrics_buckets, "{name}");
    }
}

#[test]
fn values_are_printed_as_fabric_prints_them() {
    let metrics = Metrics::new();
    metrics.messages_sent.inc();
    metrics.set_height(&ChannelId::from("ch"), 7);
    let text = metrics.text();
    for line in [
        "gossip_comm_messages_sent 1",
        "gossip_state_height{channel=\"ch\"} 7",
        "ledger_blockchain_height{channel=\"ch\"} 7",
    ] {
        assert!(text.lines().any(|each| each == line), "{line}: {text}");
    }
}

/// Labels with values that peers could invent would let them fill our memory and everybody's
/// dashboards. What each of these can be is said in `docs/ops.md`.
#[test]
fn labels_are_of_a_kind_that_peers_cannot_invent() {
    let labels: BTreeSet<_> = ALL.iter().flat_map(|(_, _, labels)| *labels).collect();
    let known = [
        "certificate",
        "channel",
        "data_type",
        "direction",
        "filtered",
        "kind",
        "orderer",
        "outcome",
        "queue",
        "reason",
        "rule",
        "source",
        "state",
        "version",
        "way",
    ];
    assert_eq!(labels.into_iter().copied().collect::<Vec<_>>(), known);
}

/// Rows of the tables of the page: a name, its type, its labels.
fn documented() -> BTreeMap<String, (String, String)> {
    let page = include_str!("../../../../docs/ops.md");
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?;
        let kind = cells.next()?.split(',').next()?;
        let labels = cells.next()?.replace('`', "");
        Some((name.to_owned(), (kind.to_owned(), labels)))
    });
    rows.collect()
}

#[test]
fn the_page_for_operators_lists_each_with_its_type_and_labels() {
    let documented = documented();
    for (name, kind, labels) in ALL {
        let expected = (type_name(kind).to_owned(), labels.join(", "));
        assert_eq!(
            documented.get(*name),
            Some(&expected),
            "{name} in docs/ops.md"
        );
    }
    let ours = |name: &&String| name.starts_with("tidings_") || name.starts_with("gossip_");
    for name in documented.keys().filter(ours) {
        let known = ALL.iter().any(|(known, ..)| known == name);
        assert!(known, "docs/ops.md lists {name}, which is not there");
    }
}

/// Rows of a table of the page for operators, each the names in its first column.
fn watched() -> BTreeSet<String> {
    let page = include_str!("../../../../docs/ops.md");
    let (_, table) = page.split_once("\nWorth an alarm:\n").unwrap();
    let (table, _) = table.split_once("\n\nWorth a look").unwrap();
    let column = |row: &str| row.split('|').nth(1).unwrap_or_default().to_owned();
    let whens: String = table.lines().map(column).collect();
    let names = whens.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    names.map(str::to_owned).collect()
}

#[test]
fn what_is_worth_an_alarm_of_a_channel_is_there_when_it_is_joined() {
    let metrics = Metrics::new();
    metrics.begin_channel("ch");
    metrics.set_height(&ChannelId::from("ch"), 1);
    let text = metrics.text();
    let watched = watched();
    let mut seen = 0;
    for (name, _, labels) in ALL {
        let of_channel = labels.first() == Some(&"channel") && watched.contains(*name);
        // Absent without an orderer; told by the stores when they are open.
        if of_channel && !["tidings_delivery_connected", "tidings_private_sets"].contains(name) {
            assert!(
                text.contains(&format!("\n{name}{{channel=\"ch\"")),
                "{name}: {text}"
            );
            seen += 1;
        }
    }
    assert!(seen > 5, "{watched:?}");
    assert!(
        text.contains("tidings_refused{rule=\"commit\"} 0\n"),
        "{text}"
    );
}

#[test]
fn what_deploy_watches_is_there() {
    let pages = [
        include_str!("../../../../deploy/alerts.yaml"),
        include_str!("../../../../deploy/dashboard.json"),
    ];
    for page in pages {
        let words = page.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        let families = ["tidings_", "gossip_", "deliver_", "ledger_"];
        let ours = |word: &&str| {
            let family = families.iter().any(|family| word.starts_with(family));
            family && !families.contains(word)
        };
        let watched: BTreeSet<_> = words.filter(ours).collect();
        assert!(watched.len() > 10, "{watched:?}");
        for word in watched {
            let name = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(ALL.iter().any(|(known, ..)| *known == name), "{name}");
        }
    }
}
