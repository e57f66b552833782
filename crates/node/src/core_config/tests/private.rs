//! Keys under `peer.gossip.pvtData`.

use tidings_gossip::PvtDataConfig;

use super::*;

fn private(more: &str) -> PvtDataConfig {
    settings(&with(more), &[]).unwrap().gossip.pvt_data
}

#[test]
fn private_data_is_as_in_fabrics_file_where_nothing_is_said() {
    assert_eq!(private(""), PvtDataConfig::default());
    let empty = "  gossip: {pvtData: {pullRetryThreshold: , reconcileBatchSize: 0}}\n";
    assert_eq!(private(empty), PvtDataConfig::default());
}

#[test]
fn every_key_of_private_data_is_followed() {
    let text = "  gossip:
    pvtData:
      pullRetryThreshold: 0s
      transientstoreMaxBlockRetention: 7
      pushAckTimeout: 2s
      btlPullMargin: 0
      reconcileBatchSize: 3
      reconcileSleepInterval: 5s
      reconciliationEnabled: false
      skipPullingInvalidTransactionsDuringCommit: true
      implicitCollectionDisseminationPolicy: {requiredPeerCount: 1, maxPeerCount: 2}
";
    let expected = PvtDataConfig {
        pull_retry_threshold: Duration::ZERO,
        transientstore_max_block_retention: 7,
        push_ack_timeout: Duration::from_secs(2),
        btl_pull_margin: 0,
        reconcile_batch_size: 3,
        reconcile_sleep_interval: Duration::from_secs(5),
        reconciliation_enabled: false,
        skip_pulling_invalid_transactions_during_commit: true,
        implicit_required_peer_count: 1,
        implicit_max_peer_count: 2,
    };
    assert_eq!(private(text), expected);
    let negative = private("  gossip: {pvtData: {btlPullMargin: -3}}\n");
    assert_eq!(negative.btl_pull_margin, 10);
}

#[test]
fn more_required_peers_than_there_may_be_are_refused() {
    let counts = "{implicitCollectionDisseminationPolicy: {requiredPeerCount: 2}}";
    let refused = refused(&with(&format!("  gossip: {{pvtData: {counts}}}\n")), &[]);
    assert!(refused.contains("lower the one"), "{refused}");
}
