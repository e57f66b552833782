//! What a running node says of itself: what is not well, and what it turned away.

use super::finding::Finding;
use tidings_node::view::View;

const REFUSALS: &str = "refusals";

/// Refusals that mean nothing: while a node starts and has not joined its channels yet, it knows
/// nobody of other organizations. A peer that is set up wrongly tries again for ever.
const FEW_MAX: u64 = 5;

/// Rules whose breach says that somebody, here or there, should change a setting: how it is said,
/// which setting, and what to do.
const TELLING: &[(&str, &str, &str, &str)] = &[
    (
        "C-S1",
        "showed no TLS certificate",
        "peer.tls.enabled",
        "it must be the same on all peers",
    ),
    (
        "C-S2",
        "signed for another TLS certificate than the one that it showed",
        "peer.tls.clientCert.file",
        "something on the way ends TLS, which gossip does not survive: let it pass TCP through",
    ),
    (
        "C-S5",
        "came with an identity that is not good here: of an organization that no channel of ours names, expired, or revoked",
        "peer.mspConfigPath",
        "look at the log (gossip.comm) for who it was; if it is of our organization, compare the CA certificates there and here; it means nothing if it was before this node joined the channel",
    ),
    (
        "C-S6",
        "did not sign as the owner of its identity",
        "peer.mspConfigPath",
        "look at the log (gossip.comm) for who it was: its key does not fit its certificate",
    ),
    (
        "C-S9",
        "answered at the endpoint of a peer of another organization",
        "peer.gossip.externalEndpoint",
        "two peers say that they are at the same place: look at the log (gossip.comm) for which",
    ),
];

/// What a node that is in no channel refuses as a rule: it knows no organization but its own.
const USUAL: &[&str] = &["C-S5", "D-S3", "P-S1", "S-N5", "S-N7"];

/// What is not well, and who was refused by this node.
pub(super) fn judge(state: &View) -> Vec<Finding> {
    let mut findings: Vec<_> = state
        .failed
        .iter()
        .map(|failed| {
            let (setting, advice) = cure(&failed.component);
            Finding::fault("health", format!("{}: {}", failed.component, failed.reason))
                .change(setting, advice)
        })
        .collect();
    if findings.is_empty() {
        let members = state.members.len();
        let found = format!(
            "the node of version {} is well and knows {members} members",
            state.version
        );
        findings.push(Finding::ok("health", found));
    }
    findings.extend(refusals(state));
    findings
}

fn cure(component: &str) -> (&'static str, &'static str) {
    match component.split('/').next() {
        Some("identity") => (
            "peer.mspConfigPath",
            "enrol again, put the new certificate into signcerts, and start the node again",
        ),
        Some("ledger") => (
            "peer.fileSystemPath",
            "free some space there, or see what its log says, and start the node again",
        ),
        Some("orderer-connection") => (
            "peer.deliveryclient.addressOverrides",
            "see what is found of the orderers here; the key replaces addresses that are not good from here",
        ),
        _ => ("the node", "keep its log, and start it again"),
    }
}

fn refusals(state: &View) -> Vec<Finding> {
    let mut findings = Vec::new();
    let usual = if state.channels.is_empty() {
        USUAL
    } else {
        &[]
    };
    let telling = TELLING.iter().filter(|(rule, ..)| !usual.contains(rule));
    for (rule, what, setting, advice) in telling {
        let count = state.refused.get(*rule).copied().unwrap_or_default();
        if count <= FEW_MAX {
            continue;
        }
        findings.push(
            Finding::warning(
                REFUSALS,
                format!(
                    "{count} times since its start this node refused a peer that {what} ({rule})"
                ),
            )
            .because("that peer takes no part in gossip with this node")
            .change(*setting, *advice),
        );
    }
    if findings.is_empty() {
        let others: u64 = state.refused.values().sum();
        let found = match others {
            0 => "this node has refused nothing".to_owned(),
            count if state.refused.keys().all(|rule| usual.contains(&&**rule)) => format!(
                "this node has refused {count} messages or streams, as is usual for one that is in no channel"
            ),
            count => format!(
                "this node has refused {count} messages or streams, none often for one setting"
            ),
        };
        findings.push(Finding::ok(REFUSALS, found));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;
    use tidings_node::health::FailedCheck;
    use tidings_node::view::Channel;

    #[test]
    fn what_is_not_well_and_who_was_refused_name_a_setting() {
        let mut state = View {
            channels: vec![Channel::default()],
            ..View::default()
        };
        let severities = |state: &View| -> Vec<_> {
            judge(state)
                .into_iter()
                .map(|finding| finding.severity)
                .collect()
        };
        assert_eq!(severities(&state), [Severity::Ok, Severity::Ok]);
        state.refused.insert("handshake ended".into(), 3);
        assert_eq!(severities(&state), [Severity::Ok, Severity::Ok]);
        state.refused.insert("C-S5".into(), FEW_MAX);
        assert_eq!(severities(&state), [Severity::Ok, Severity::Ok]);
        state.refused.insert("C-S5".into(), FEW_MAX + 1);
        state.failed.push(FailedCheck {
            component: "ledger/ch".into(),
            reason: "no space".into(),
        });
        let findings = judge(&state);
        assert_eq!(findings[0].severity, Severity::Fault);
        assert_eq!(findings[0].setting.as_deref(), Some("peer.fileSystemPath"));
        assert_eq!(findings[1].severity, Severity::Warning);
        assert!(findings[1].found.starts_with("6 times"), "{findings:?}");
        assert_eq!(findings.len(), 2);
        state.channels.clear();
        let found = &judge(&state)[1];
        assert_eq!(found.severity, Severity::Ok, "in no channel: {found:?}");
        assert!(found.found.contains("none often"), "{found:?}");
        state.refused.remove("handshake ended");
        assert!(judge(&state)[1].found.contains("as is usual"));
        // What has nothing to do with channels is told.
        state.refused.insert("C-S1".into(), FEW_MAX + 1);
        let found = &judge(&state)[1];
        assert_eq!(found.setting.as_deref(), Some("peer.tls.enabled"));
    }
}
