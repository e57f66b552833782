//! Answers to those who ask for blocks, and what becomes of those who do not take them.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tidings_gossip::{
    Input,
    id::{ChannelId, ConnectionId, Ticket},
};
use tidings_proto::gossip::gossip_message::Content;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::TaskTracker;

use super::toy::{World, content};
use crate::serve::{Ask, Blocks, READS_MAX, Serve};

/// Every block has a megabyte.
struct Large;

impl Blocks for Large {
    fn block(&self, _: u64) -> Result<Option<Bytes>, String> {
        Ok(Some(vec![0; 1 << 20].into()))
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_take_its_answers_waits_alone() {
    let world = World::new();
    let mut a = world.node("one/a");
    let (_b, _from_b) = world.friend("one/b", "one/a").await;
    assert_eq!(a.news().await, "one/b connected as 1");
    let (_c, from_c) = world.friend("one/c", "one/a").await;
    assert_eq!(a.news().await, "one/c connected as 2");
    let (inputs, mut served) = mpsc::channel(16);
    let serve = Serve::new(
        a.comm.handle(),
        inputs,
        TaskTracker::new(),
        a.metrics.clone(),
    );
    let ask = |ticket, connection| {
        let ask = Ask {
            private: None,
            ticket: Ticket(ticket),
            channel: ChannelId::from("ch"),
            range: 5..=6,
            connection: ConnectionId(connection),
            nonce: ticket,
        };
        serve.answer(Arc::new(Large), ask);
    };
    let mut next = async |seconds| {
        let input = timeout(Duration::from_secs(seconds), served.recv()).await;
        input.ok().map(|input| match input {
            Some(Input::Served { ticket }) => ticket.0,
            other => panic!("{other:?}"),
        })
    };
    // As much as windows and pipes hold counts as taken.
    let mut stuck = 1;
    ask(stuck, 1);
    while next(2).await == Some(stuck) {
        stuck += 1;
        ask(stuck, 1);
    }
    assert!(stuck < 64, "{stuck} answers of 2 MiB taken by nobody");
    ask(1000, 2);
    let answer = from_c.hear().await.unwrap().unwrap();
    let Some(Content::StateResponse(response)) = content(&answer) else {
        panic!("blocks expected");
    };
    let numbers: Vec<_> = response.payloads.iter().map(|p| p.seq_num).collect();
    assert_eq!(numbers, [5, 6]);
    assert_eq!(next(1).await, Some(1000));
    assert_eq!(next(3).await, Some(stuck), "it gets no more time than that");
    // A stream that is gone takes nothing more.
    ask(1001, 7);
    assert_eq!(next(1).await, Some(1001));
}

/// Reads end when so many are under way.
struct Together {
    barrier: Barrier,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Blocks for Together {
    fn block(&self, _: u64) -> Result<Option<Bytes>, String> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.barrier.wait();
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(None)
    }
}

#[tokio::test]
async fn so_many_answers_are_read_at_a_time_and_the_next_waits() {
    let world = World::new();
    let a = world.node("one/a");
    let (inputs, mut served) = mpsc::channel(16);
    let serve = Serve::new(
        a.comm.handle(),
        inputs,
        TaskTracker::new(),
        a.metrics.clone(),
    );
    let blocks = Arc::new(Together {
        barrier: Barrier::new(READS_MAX),
        now: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let all = 3 * READS_MAX;
    for ticket in (0..).take(all) {
        let ask = Ask {
            private: None,
            ticket: Ticket(ticket),
            channel: ChannelId::from("ch"),
            range: 5..=5,
            connection: ConnectionId(1),
            nonce: ticket,
        };
        serve.answer(Arc::clone(&blocks) as Arc<dyn Blocks>, ask);
    }
    for _ in 0..all {
        assert!(matches!(served.recv().await, Some(Input::Served { .. })));
    }
    // Not fewer, or the reads would still wait for each other.
    assert_eq!(blocks.most.load(Ordering::SeqCst), READS_MAX);
}
