//! The one stream of blocks.

use std::sync::Arc;

use bytes::Bytes;
use tidings_gossip::{
    VerifiedBlock, Verifier,
    delivery::{Event, StreamId},
};
use tidings_proto::block::BlockView;
use tokio::{sync::watch, task::spawn_blocking};

use super::{
    Followed, Wanted,
    ask::Ended,
    client::{Client, Content, Reader},
};

/// Has the wanted stream under way, until nobody can want one any more.
pub(super) async fn run(
    client: Arc<Client>,
    ledger: Followed,
    mut wanted: watch::Receiver<Option<Wanted>>,
) {
    let blocks = Blocks(client);
    loop {
        let now = wanted.borrow_and_update().clone();
        if let Some(now) = now {
            tokio::select! {
                biased;
                changed = wanted.changed() => match changed {
                    Ok(()) => continue,
                    Err(_dropped) => return,
                },
                () = blocks.0.pull(&blocks, &now, ledger.clone()) => {}
            }
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

struct Blocks(Arc<Client>);

impl Reader for Blocks {
    const CONTENT: Content = Content::Blocks;

    async fn take(&self, stream: StreamId, bytes: Bytes) -> Result<(u64, bool), Ended> {
        // The claimed number is the block's own: what is next is the core's question.
        let number = BlockView::parse(bytes.clone())
            .ok()
            .and_then(|view| view.number())
            .ok_or_else(|| "sent a block without header".to_owned())?;
        let block = self
            .verify(number, bytes)
            .await
            .map_err(|reason| format!("sent block {number}, which is not good: {reason}"))?;
        // What comes after a configuration is to be judged by what it says.
        let decides = block.is_config;
        self.0.tell(Event::Block { stream, block }).await;
        Ok((number, decides))
    }
}

impl Blocks {
    /// On a thread of its own: a large block takes a while to hash.
    async fn verify(&self, number: u64, bytes: Bytes) -> Result<VerifiedBlock, String> {
        let (crypto, channel) = (Arc::clone(&self.0.crypto), self.0.channel.clone());
        let verify = move || crypto.verify_block(&channel, number, &bytes);
        spawn_blocking(verify)
            .await
            .map_err(|error| error.to_string())?
    }
}
