//! Whoever does one thing wrong in the handshake is turned away, with one line and one count.

use crate::{
    devnet::Devnet,
    intruder::{Intruder, check_refusals},
};

#[test]
fn refuses_what_go_refuses() {
    let network = Devnet::up(1, 2);
    let node = network.join(1, 0);
    let home = network.crypto(1).join("peers/peer1.org1.demo");
    let intruder = Intruder::new("Org1MSP", &home.join("msp"), &home.join("tls"));
    check_refusals("refuses_what_go_refuses", &node, &intruder, |_| None);
}
