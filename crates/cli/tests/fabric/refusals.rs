//! What Go peers turn away at the door, a node of ours turns away too, and says why.

use crate::{
    fabnet,
    intruder::{Intruder, Wrong},
    node::Node,
    wait::measured,
};

/// Every fault with the rule that it breaks.
pub(crate) const FAULTS: [(Wrong, &str); 6] = [
    (Wrong::NoCertificate, "C-S1"),
    (Wrong::TlsHash, "C-S2"),
    (Wrong::PkiId, "C-S3"),
    (Wrong::Msp, "C-S5"),
    (Wrong::HighS, "C-S6"),
    (Wrong::FirstMessage, "C-S7"),
];

#[test]
fn refuses_what_go_refuses() {
    const NAME: &str = "refuses_what_go_refuses";
    let Some(network) = fabnet::up(NAME, &[]) else {
        return;
    };
    let node = network.join("org1-extra0");
    let extra = network.extra("org1-extra1");
    let intruder = Intruder::new(&extra.msp_id, &extra.msp_dir, &extra.tls_dir);
    let peer = &network.peer("org1-peer0").endpoint;
    assert_eq!(intruder.tries(peer, Wrong::Nothing), Ok(()));
    check_refusals(NAME, &node, &intruder, |wrong| {
        Some(intruder.tries(peer, wrong).unwrap_err())
    });
}

/// The node lets in who does nothing wrong; each fault costs one line and counts once. Told is
/// what others say to the same.
pub(crate) fn check_refusals(
    scenario: &str,
    node: &Node,
    intruder: &Intruder,
    others: impl Fn(Wrong) -> Option<String>,
) {
    assert_eq!(intruder.tries(&node.endpoint, Wrong::Nothing), Ok(()));
    for (wrong, rule) in FAULTS {
        let refused = || {
            node.sum("tidings_refused", &[("rule", rule)])
                .unwrap_or_default()
        };
        let (before, start) = (refused(), node.log_len());
        let ours = intruder.tries(&node.endpoint, wrong).unwrap_err();
        let lines = node.log_since(start).into_iter();
        let lines: Vec<_> = lines.filter(|line| line.fields["rule"] == rule).collect();
        assert_eq!(lines.len(), 1, "{wrong:?}: {lines:?}");
        assert_eq!(refused(), before + 1.0, "{wrong:?}");
        let theirs = others(wrong).map_or_else(String::new, |text| format!("; theirs: {text}"));
        measured(
            scenario,
            format_args!("{wrong:?}: {rule}, ours: {ours}{theirs}"),
        );
    }
}
