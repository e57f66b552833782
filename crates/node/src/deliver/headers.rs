//! Streams of headers, beside that of blocks.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tidings_gossip::delivery::{Event, StreamId};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet, spawn_blocking},
};

use super::{
    Followed, Wanted,
    ask::Ended,
    client::{Client, Content, Reader},
};

/// Has the wanted streams under way, until nobody can want any more. One that failed rests until
/// it is not wanted any more: the core begins another in its place.
pub(super) async fn run(
    client: Arc<Client>,
    ledger: Followed,
    mut wanted: watch::Receiver<BTreeMap<StreamId, Wanted>>,
) {
    let mut tasks = JoinSet::new();
    let mut begun: BTreeMap<StreamId, AbortHandle> = BTreeMap::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        begun.retain(|stream, task| {
            let stays = now.contains_key(stream);
            if !stays {
                task.abort();
            }
            stays
        });
        for (stream, wanted) in now {
            begun.entry(stream).or_insert_with(|| {
                let (headers, ledger) = (Headers(Arc::clone(&client)), ledger.clone());
                tasks.spawn(async move { headers.0.pull(&headers, &wanted, ledger).await })
            });
        }
        loop {
            tokio::select! {
                changed = wanted.changed() => match changed {
                    Ok(()) => break,
                    // Those under way end with the set.
                    Err(_dropped) => return,
                },
                // Only so that they do not pile up.
                Some(_ended) = tasks.join_next() => {}
            }
        }
    }
}

struct Headers(Arc<Client>);

impl Reader for Headers {
    const CONTENT: Content = Content::Headers;

    async fn take(&self, stream: StreamId, bytes: Bytes) -> Result<(u64, bool), Ended> {
        let (crypto, channel) = (Arc::clone(&self.0.crypto), self.0.channel.clone());
        let verify = move || crypto.verify_header(&channel, &bytes);
        let verified = spawn_blocking(verify)
            .await
            .map_err(|error| error.to_string())
            .flatten();
        let (header, is_config) =
            verified.map_err(|reason| format!("sent a header that is not good: {reason}"))?;
        let number = header.number;
        self.0.tell(Event::Header { stream, header }).await;
        Ok((number, is_config))
    }
}
