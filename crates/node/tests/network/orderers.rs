//! Orderers that move, as the channel configuration says.

use tokio::net::TcpListener;

use crate::{
    chain::Chain,
    orderer::Orderer,
    ordering,
    peer::{Seat, reaches, soon, tls_settings},
};

#[tokio::test]
async fn a_configuration_that_moves_the_orderer_moves_the_stream() {
    let (mut chain, mut old) = ordering(3).await;
    let (seat, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
    let mut node = seat.start(listener).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    assert_eq!(soon(old.starts.recv()).await, Some(1));
    let (door, address) = Orderer::door().await;
    chain.move_orderer(&address.to_string());
    // The old one knows nothing of what comes after.
    old.serve(chain.blocks.clone());
    chain.grow_to(8);
    let mut new = Orderer::start(door, chain.blocks.clone());
    assert_eq!(soon(new.starts.recv()).await, Some(4));
    reaches(&node, 8).await;
    node.stop().await;
    // After a restart the new one is asked at once.
    chain.grow_to(9);
    new.serve(chain.blocks.clone());
    let listener = TcpListener::bind(seat.address).await.unwrap();
    let node = seat.start(listener).await;
    assert_eq!(soon(new.starts.recv()).await, Some(8));
    reaches(&node, 9).await;
    assert!(old.starts.try_recv().is_err(), "nobody asks there any more");
    node.stop().await;
}

#[tokio::test]
async fn an_orderer_is_trusted_by_the_roots_of_the_configuration_in_force() {
    let (door, address) = Orderer::door().await;
    let mut chain = Chain::new(&address.to_string());
    chain.grow_to(3);
    let organization = &chain.material.orderer_a;
    let mut orderer = Orderer::start_secured(organization, door, chain.blocks.clone());
    let (mut seat, listener) = Seat::new(&chain.material.org1, "peer0", None).await;
    seat.tls = Some(tls_settings(&chain.material.org1));
    let mut node = seat.start(listener).await;
    node.join(chain.blocks[0].clone()).await.unwrap();
    reaches(&node, 3).await;
    assert_eq!(soon(orderer.starts.recv()).await, Some(1));
    let successor = chain.add_tls_root();
    orderer.serve(chain.blocks.clone());
    reaches(&node, 4).await;
    assert_eq!(soon(orderer.starts.recv()).await, Some(4));
    // The same address, under a certificate that only the new root vouches for.
    drop(orderer);
    chain.grow_to(7);
    let door = soon(async {
        // The other gives the port back in its own time.
        loop {
            match TcpListener::bind(address).await {
                Ok(door) => return door,
                Err(_in_use) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let _orderer = Orderer::start_secured(&successor, door, chain.blocks.clone());
    reaches(&node, 7).await;
    node.stop().await;
}
