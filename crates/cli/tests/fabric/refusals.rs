//! What Go peers turn away at the door, a node of ours turns away too, and says why.

use crate::{
    fabnet,
    intruder::{Intruder, Wrong, check_refusals},
};

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
