//! Streams from orderers: begun, read and ended when the core says so, with those it names.
//!
//! Of blocks there is one stream at a time: the latest command wins, and the stream of an earlier
//! one is dropped. Of headers there are as many as the core wants. Everything is verified here
//! before the core sees it, and nothing is taken far beyond what the ledger has reached: a fast
//! orderer waits for a slow disk in its own socket, and one that invents headers cannot flood us.
//!
//! Rules: docs/protocol/delivery.md.

pub(crate) mod ask;
mod blocks;
mod client;
mod headers;
mod place;
mod settings;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tidings_gossip::{
    Input,
    delivery::{Command, StreamId},
    id::ChannelId,
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use self::client::Client;
pub use self::settings::{AddressOverride, DeliverySettings};
use crate::{crypto::Crypto, tls::Tls, vitals::Vitals};

/// A block that members are not ready for is held back no longer than this. So a leader, which may
/// have listeners of its own, takes a hundred blocks a second whatever members say of themselves.
const HELD_MAX: Duration = Duration::from_millis(10);

/// What a stream from the orderers needs to know of its node.
#[derive(Clone, Debug)]
pub(crate) struct DeliverConfig {
    /// What the operator says.
    pub(crate) settings: DeliverySettings,
    /// Blocks and headers taken beyond the height of the ledger.
    pub(crate) ahead_max: u64,
    /// Our TLS side; none: plaintext.
    pub(crate) tls: Option<Tls>,
    /// To be told of the orderer that gives us blocks.
    pub(crate) vitals: Vitals,
    /// Show the client certificate and bind requests to it (`peer.tls.clientAuthRequired`).
    pub(crate) client_auth: bool,
}

/// What a delivery follows of its channel.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    /// Blocks in it.
    pub(crate) height: watch::Receiver<u64>,
    /// Changes when orderers at the same addresses are to be trusted by other roots. (Of other
    /// addresses the core hears, and gives another command.)
    pub(crate) roots: watch::Receiver<()>,
    /// Whether members of our organization are far behind.
    is_held: watch::Receiver<bool>,
}

impl Followed {
    /// Waits until there is room for this block: until the ledger is no more than `ahead_max` behind it,
    /// and a moment for members. False if the channel is closed before.
    pub(crate) async fn has_room(&mut self, number: u64, ahead_max: u64) -> bool {
        let near = number.saturating_sub(ahead_max);
        if self.height.wait_for(|have| *have >= near).await.is_err() {
            return false;
        }
        // Late or never is as good as ready.
        let _ = timeout(HELD_MAX, self.is_held.wait_for(|is_held| !is_held)).await;
        true
    }

    /// Waits until the ledger holds that many blocks: for ever, if it takes no more.
    async fn reached(&mut self, height: u64) {
        if self.height.wait_for(|have| *have >= height).await.is_err() {
            std::future::pending().await
        }
    }
}

/// One stream that the core wants.
#[derive(Clone, Debug)]
struct Wanted {
    stream: StreamId,
    endpoint: String,
    start: u64,
    after: Duration,
}

/// The delivery of one channel. It ends when this is dropped.
pub(crate) struct DeliverTask {
    blocks: watch::Sender<Option<Wanted>>,
    headers: watch::Sender<BTreeMap<StreamId, Wanted>>,
    held: watch::Sender<bool>,
    followed: Followed,
}

impl DeliverTask {
    /// Starts tasks that wait for commands.
    pub(crate) fn start(
        tasks: &TaskTracker,
        config: DeliverConfig,
        channel: ChannelId,
        crypto: Arc<Crypto>,
        (height, roots): (watch::Receiver<u64>, watch::Receiver<()>),
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        let (held, is_held) = watch::channel(false);
        let followed = Followed {
            height,
            roots,
            is_held,
        };
        let (blocks, block_stream) = watch::channel(None);
        let (headers, header_streams) = watch::channel(BTreeMap::new());
        let client = Arc::new(Client {
            config,
            channel,
            crypto,
            inputs,
        });
        tasks.spawn(blocks::run(
            Arc::clone(&client),
            followed.clone(),
            block_stream,
        ));
        tasks.spawn(headers::run(client, followed.clone(), header_streams));
        Self {
            blocks,
            headers,
            held,
            followed,
        }
    }

    /// Has what comes next held back, or not.
    pub(crate) fn hold(&self, is_held: bool) {
        self.held.send_replace(is_held);
    }

    /// For others who bring blocks of this channel.
    pub(crate) fn followed(&self) -> Followed {
        self.followed.clone()
    }

    /// Changes what is being done. Never waits.
    pub(crate) fn command(&self, command: Command) {
        match command {
            Command::Connect {
                stream,
                endpoint,
                start,
                after,
            } => {
                let wanted = Wanted {
                    stream,
                    endpoint,
                    start,
                    after,
                };
                self.blocks.send_replace(Some(wanted));
            }
            Command::Disconnect => drop(self.blocks.send_replace(None)),
            Command::Watch {
                stream,
                endpoint,
                start,
                after,
            } => {
                let wanted = Wanted {
                    stream,
                    endpoint,
                    start,
                    after,
                };
                self.headers
                    .send_modify(|streams| drop(streams.insert(stream, wanted)));
            }
            Command::Unwatch(stream) => {
                self.headers
                    .send_modify(|streams| drop(streams.remove(&stream)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_block_waits_for_the_ledger_and_for_members_not_for_long() {
        let (ledger, height) = watch::channel(5);
        let (_roots, roots) = watch::channel(());
        let (hold, is_held) = watch::channel(false);
        let mut followed = Followed {
            height,
            roots,
            is_held,
        };
        let began = Instant::now();
        assert!(followed.has_room(45, 40).await);
        assert_eq!(began.elapsed(), Duration::ZERO);
        hold.send_replace(true);
        assert!(followed.has_room(45, 40).await);
        assert!((HELD_MAX..2 * HELD_MAX).contains(&began.elapsed()));
        let grow = async {
            tokio::time::sleep(4 * HELD_MAX).await;
            ledger.send_replace(6);
            hold.send_replace(false);
        };
        let began = Instant::now();
        let (has_room, ()) = tokio::join!(followed.has_room(46, 40), grow);
        assert!(has_room && began.elapsed() >= 4 * HELD_MAX);
        drop(ledger);
        assert!(!followed.has_room(47, 40).await);
    }
}
