//! A development orderer: one process, one channel, no consensus.
//!
//! Promises: speaks Fabric's AtomicBroadcast as clients and peers know it, signs what it cuts,
//! and answers only what has been written to its ledger. Holds no more of the chain in memory
//! than it is sending. Not for production: whoever stops it stops the channel. It either orders
//! what is submitted, or serves the blocks of a recording.

mod batch;
mod block;
mod broadcast;
mod chain;
mod deliver;
mod service;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tidings_msp::identity::SigningIdentity;
pub(crate) use tidings_node::clients::Refused;
use tidings_node::tls::{Closer, Incoming, Tls};
use tidings_proto::block::BlockView;
use tidings_proto::orderer::atomic_broadcast_server::AtomicBroadcastServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::batch::Batches;
pub(crate) use self::block::nonce;
use self::broadcast::Submitted;
pub(crate) use self::chain::Chain;
use self::service::Service;
use crate::complaint::in_one_line;

/// Envelopes between the check at the door and the block they go into. Submitting waits when it
/// is full: an orderer that outruns its disk gains nothing.
const QUEUE_LEN: usize = 256;

/// The largest message that Fabric's programs take.
const MESSAGE_LEN_MAX: usize = 100 * 1024 * 1024;

/// HTTP/2 pings to a silent peer, so that a dead one frees its stream.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A running orderer. Dropping it ends the service and every stream.
pub(crate) struct Orderer {
    chain: Arc<Chain>,
    queue: Option<mpsc::Sender<Submitted>>,
    ordering: Option<JoinHandle<()>>,
    failed: watch::Receiver<Option<String>>,
    _closer: Closer,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Where an orderer listens and how.
pub(crate) struct Door {
    /// An open port.
    pub(crate) listener: TcpListener,
    /// Its TLS.
    pub(crate) tls: Tls,
    /// Whether a client must show a certificate and name its hash in every request.
    pub(crate) mutual: bool,
}

impl Orderer {
    /// An orderer that cuts, signs and serves blocks.
    pub(crate) fn ordering(chain: Chain, signer: SigningIdentity, door: Door) -> Self {
        let chain = Arc::new(chain);
        let (queue, submitted) = mpsc::channel(QUEUE_LEN);
        let (failure, failed) = watch::channel(None);
        let ordering = tokio::spawn({
            let chain = Arc::clone(&chain);
            async move {
                if let Err(error) = order(chain, signer, submitted).await {
                    failure.send_replace(Some(in_one_line(&error)));
                }
            }
        });
        Self::start(chain, Some(queue), Some(ordering), failed, door)
    }

    /// An orderer that only serves what is appended to its chain.
    pub(crate) fn serving(chain: Chain, door: Door) -> Self {
        let (_, failed) = watch::channel(None);
        Self::start(Arc::new(chain), None, None, failed, door)
    }

    fn start(
        chain: Arc<Chain>,
        queue: Option<mpsc::Sender<Submitted>>,
        ordering: Option<JoinHandle<()>>,
        failed: watch::Receiver<Option<String>>,
        door: Door,
    ) -> Self {
        let (incoming, closer) = Incoming::new(door.listener, Some(door.tls));
        let service = Service::new(Arc::clone(&chain), queue.clone(), door.mutual);
        let service = AtomicBroadcastServer::new(service)
            .max_decoding_message_size(MESSAGE_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX);
        let server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(service)
            .serve_with_incoming(incoming);
        Self {
            chain,
            queue,
            ordering,
            failed,
            _closer: closer,
            server: tokio::spawn(server),
        }
    }

    /// The chain that it serves.
    pub(crate) fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Submits an envelope as Broadcast does. Waits while the orderer is busy.
    pub(crate) async fn submit(&self, envelope: Bytes) -> Result<(), Refused> {
        broadcast::submit(&self.chain, self.queue.as_ref(), envelope).await
    }

    /// Why ordering ended, if it did: the disk is full, for one.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failed.borrow().clone()
    }
}

impl Drop for Orderer {
    fn drop(&mut self) {
        self.server.abort();
        if let Some(ordering) = &self.ordering {
            ordering.abort();
        }
    }
}

/// Cuts blocks out of what is submitted, until nobody submits any more.
async fn order(
    chain: Arc<Chain>,
    signer: SigningIdentity,
    mut submitted: mpsc::Receiver<Submitted>,
) -> Result<()> {
    let signer = Arc::new(signer);
    let mut batches = Batches::new(chain.config().batch());
    loop {
        let next = if batches.is_empty() {
            submitted.recv().await
        } else {
            // The timeout runs from the first transaction of a batch, not from the latest.
            match tokio::time::timeout_at(batches.due(), submitted.recv()).await {
                Ok(next) => next,
                Err(_) => {
                    write(&chain, &signer, batches.cut()).await?;
                    continue;
                }
            }
        };
        match next {
            None => return write(&chain, &signer, batches.cut()).await,
            Some(Submitted::Transaction(envelope)) => {
                for batch in batches.order(tokio::time::Instant::now(), envelope) {
                    write(&chain, &signer, batch).await?;
                }
            }
            Some(Submitted::Update(update)) => {
                write(&chain, &signer, batches.cut()).await?;
                // Two that were allowed at the door may exclude each other.
                match block::configuration(&signer, &chain.config(), update) {
                    Ok(transaction) => write_config(&chain, &signer, transaction).await?,
                    Err(error) => {
                        tracing::warn!(target: "orderer", "an update came too late: {error:#}");
                    }
                }
                batches = Batches::new(chain.config().batch());
            }
        }
    }
}

async fn write(chain: &Arc<Chain>, signer: &Arc<SigningIdentity>, batch: Vec<Bytes>) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    write_at(chain, signer, chain.next(), batch).await
}

/// A configuration is alone in its block, which is the last of its kind from then on.
async fn write_config(
    chain: &Arc<Chain>,
    signer: &Arc<SigningIdentity>,
    transaction: Bytes,
) -> Result<()> {
    let mut place = chain.next();
    place.last_config = place.number;
    write_at(chain, signer, place, vec![transaction]).await
}

async fn write_at(
    chain: &Arc<Chain>,
    signer: &Arc<SigningIdentity>,
    place: block::Place,
    batch: Vec<Bytes>,
) -> Result<()> {
    let (chain, signer) = (Arc::clone(chain), Arc::clone(signer));
    tokio::task::spawn_blocking(move || {
        let block = block::make(&signer, place, batch)?;
        chain
            .append(block)
            .context("the orderer cannot write a block")
    })
    .await?
}

/// Makes sure that a listener is on loopback: this orderer is for one machine.
pub(crate) async fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).await
}

/// A block out of a file of a recording.
pub(crate) fn read_block(path: &Path) -> Result<BlockView> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let block = BlockView::parse(bytes.into())
        .with_context(|| format!("{} is not a block", path.display()))?;
    ensure!(
        block.header().is_some(),
        "{} is not a block: it has no header",
        path.display()
    );
    Ok(block)
}

#[cfg(test)]
mod tests;
