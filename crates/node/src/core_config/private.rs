//! `peer.gossip.pvtData`, where a zero is meant as it stands but for what cannot be zero.

use tidings_gossip::PvtDataConfig;

use super::{ConfigRefused, CoreConfig, DURATION_MIN};

/// The counts for our own implicit collection do not go together.
const COUNTS: &str = "peer.gossip.pvtData.implicitCollectionDisseminationPolicy.requiredPeerCount is above maxPeerCount: lower the one or raise the other";

/// Reads every key; what is not set is as in the file that Fabric ships.
pub(super) fn settings(config: &CoreConfig) -> Result<PvtDataConfig, ConfigRefused> {
    let default = PvtDataConfig::default();
    let time = |key, default| Ok(config.duration(key)?.unwrap_or(default));
    let margin = "peer.gossip.pvtData.btlPullMargin";
    let is_negative = config
        .text(margin)?
        .is_some_and(|margin| margin.starts_with('-'));
    let settings = PvtDataConfig {
        pull_retry_threshold: time(
            "peer.gossip.pvtData.pullRetryThreshold",
            default.pull_retry_threshold,
        )?,
        transientstore_max_block_retention: config.number_or(
            "peer.gossip.pvtData.transientstoreMaxBlockRetention",
            default.transientstore_max_block_retention,
        )?,
        push_ack_timeout: time(
            "peer.gossip.pvtData.pushAckTimeout",
            default.push_ack_timeout,
        )?
        .max(DURATION_MIN),
        // As in Fabric a negative one is none.
        btl_pull_margin: if is_negative {
            default.btl_pull_margin
        } else {
            config.literal(margin, default.btl_pull_margin)?
        },
        reconcile_batch_size: config.number_or(
            "peer.gossip.pvtData.reconcileBatchSize",
            default.reconcile_batch_size,
        )?,
        reconcile_sleep_interval: config.duration_or(
            "peer.gossip.pvtData.reconcileSleepInterval",
            default.reconcile_sleep_interval,
        )?,
        reconciliation_enabled: config.flag(
            "peer.gossip.pvtData.reconciliationEnabled",
            default.reconciliation_enabled,
        )?,
        skip_pulling_invalid_transactions_during_commit: config.flag(
            "peer.gossip.pvtData.skipPullingInvalidTransactionsDuringCommit",
            default.skip_pulling_invalid_transactions_during_commit,
        )?,
        implicit_required_peer_count: config.literal(
            "peer.gossip.pvtData.implicitCollectionDisseminationPolicy.requiredPeerCount",
            default.implicit_required_peer_count,
        )?,
        implicit_max_peer_count: config.literal(
            "peer.gossip.pvtData.implicitCollectionDisseminationPolicy.maxPeerCount",
            default.implicit_max_peer_count,
        )?,
    };
    if settings.implicit_required_peer_count > settings.implicit_max_peer_count {
        return Err(ConfigRefused::Conflict(COUNTS));
    }
    Ok(settings)
}
