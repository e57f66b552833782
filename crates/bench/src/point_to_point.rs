//! Workload E: one connection between two transports, without the protocol core: what a message
//! costs both ends, and what a handshake does.
//!
//! The sender never has more under way than its queue holds, so nothing is dropped; the receiver
//! decodes each message and counts it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::future::{BoxFuture, FutureExt};
use serde::Serialize;
use tidings_gossip::{
    Connection, Input,
    effect::Destination,
    id::{PkiId, Ticket},
};
use tidings_msp::services::CryptoServices;
use tidings_node::{
    comm::{Comm, CommConfig, Inbox, Surroundings},
    crypto::Crypto,
    metrics::Metrics,
    msp_folder,
    tls::Tls,
};
use tidings_proto::{
    envelope::Opened,
    gossip::{
        DataMessage, Envelope, GossipMessage, Payload,
        gossip_message::{Content, Tag},
    },
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};
use tonic::service::Routes;

use crate::{
    chain::CHANNEL,
    cost::Meter,
    floor::Floor,
    keys::{MSP_ID, Organization},
    report::{Figure, Table, Tables},
};

/// Bytes of the payloads.
const SMALL_LEN: usize = 205;
const LARGE_LEN: usize = 10_245;

/// Messages that may be under way: fewer than a queue of `sendBuffSize` holds.
const UNDER_WAY_MAX: u32 = 150;

/// The receiver lets the sender go on after so many.
const BATCH: u32 = 50;

/// What a transport may have to say before it is listened to.
const INPUTS_MAX: usize = 1024;

/// Nothing here takes a tenth of this.
const SAFETY_NET: Duration = Duration::from_secs(120);

/// How a run of workload E goes.
#[derive(Args, Clone, Copy, Debug, Serialize)]
pub(crate) struct PointToPoint {
    /// Messages with a payload of 205 bytes; rounded up to a multiple of 50, like the others.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) small: u32,
    /// Messages with a payload of 10,245 bytes.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) large: u32,
    /// Handshakes, one at a time and then as many again, eight at a time.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) handshakes: u32,
}

/// Counts what it is given, and lets the sender go on.
struct Counter {
    received: AtomicU32,
    credit: Arc<Semaphore>,
}

impl Inbox for Counter {
    fn receive(&self, _: Arc<Connection>, _: Opened) -> BoxFuture<'_, ()> {
        let received = self.received.fetch_add(1, Ordering::Relaxed) + 1;
        if received.is_multiple_of(BATCH) {
            self.credit.add_permits(BATCH as usize);
        }
        std::future::ready(()).boxed()
    }
}

/// One transport.
struct End {
    comm: Comm,
    me: PkiId,
    address: String,
    metrics: Metrics,
    /// What may be sent to it.
    credit: Arc<Semaphore>,
}

impl End {
    /// With what it has to say.
    async fn new(
        org: &Organization,
        home: &Path,
        name: &str,
    ) -> Result<(Self, mpsc::Receiver<Input>)> {
        let seat = org.seat(home, name)?;
        let local = msp_folder::load(&seat.msp_dir, MSP_ID)?;
        let services = CryptoServices::new(local.msp, Arc::new(local.signer));
        let crypto = Arc::new(Crypto::new(services));
        let me = crypto.own_identity().pki_id;
        let tls = Tls::new(&seat.tls, std::time::SystemTime::now())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (inputs_in, inputs) = mpsc::channel(INPUTS_MAX);
        let metrics = Metrics::new();
        let credit = Arc::new(Semaphore::new(UNDER_WAY_MAX as usize));
        let counter = Counter {
            received: AtomicU32::new(0),
            credit: Arc::clone(&credit),
        };
        let surroundings = Surroundings {
            authenticator: crypto,
            inbox: Arc::new(counter),
            inputs: inputs_in,
            metrics: metrics.clone(),
        };
        let config = CommConfig::new(me, Some(tls));
        let end = Self {
            comm: Comm::start(config, listener, Routes::default(), surroundings),
            me,
            address,
            metrics,
            credit,
        };
        Ok((end, inputs))
    }

    /// Bytes on connections that came in.
    fn wire_bytes(&self) -> f64 {
        let wire = |direction| {
            let counter = &self.metrics.accepted_bytes;
            counter.with_label_values(&[direction]).get()
        };
        (wire("received") + wire("sent")) as f64
    }
}

impl PointToPoint {
    /// Runs it.
    pub(crate) async fn run(self, floor: &Floor) -> Result<Tables> {
        let home = tempfile::tempdir()?;
        let org = Organization::new()?;
        let (from, mut told) = End::new(&org, home.path(), "sender").await?;
        let (to, mut told_other) = End::new(&org, home.path(), "receiver").await?;
        let mut listeners = JoinSet::new();
        listeners.spawn(async move { while told_other.recv().await.is_some() {} });
        let mut tables = Tables::default();
        for (name, at_once) in [
            ("handshakes_one_at_a_time", 1),
            ("handshakes_eight_at_a_time", 8),
        ] {
            let table = handshakes(&from, &mut told, &to, self.handshakes, at_once, floor);
            tables.put(name, table.await?);
        }
        // From here on only messages are of interest.
        listeners.spawn(async move { while told.recv().await.is_some() {} });
        messages(&from, &to, &data_message(SMALL_LEN), BATCH).await?;
        for (name, len, count) in [
            ("messages_205", SMALL_LEN, self.small),
            ("messages_10245", LARGE_LEN, self.large),
        ] {
            tables.put(name, stream(&from, &to, len, count, floor).await?);
        }
        from.comm.stop().await;
        to.comm.stop().await;
        Ok(tables)
    }
}

/// A message whose payload has that many bytes.
fn data_message(len: usize) -> Envelope {
    let message = |data: usize| GossipMessage {
        nonce: 0,
        channel: CHANNEL.into(),
        tag: Tag::ChanAndOrg.into(),
        content: Some(Content::DataMsg(DataMessage {
            payload: Some(Payload {
                seq_num: 1,
                data: vec![7; data].into(),
                private_data: Vec::new(),
            }),
        })),
    };
    let around = Envelope::unsigned(&message(len)).payload.len() - len;
    Envelope::unsigned(&message(len - around))
}

/// Sends so many messages, a multiple of a batch, and waits until all have come.
async fn messages(from: &End, to: &End, envelope: &Envelope, count: u32) -> Result<()> {
    let handle = from.comm.handle();
    let send = async {
        for _ in 0..count / BATCH {
            to.credit.acquire_many(BATCH).await?.forget();
            for _ in 0..BATCH {
                let destination = Destination {
                    peer: to.me,
                    endpoint: to.address.clone(),
                };
                handle.send(destination, envelope.clone());
            }
        }
        drop(to.credit.acquire_many(UNDER_WAY_MAX).await?);
        anyhow::Ok(())
    };
    let sent = timeout(SAFETY_NET, send).await;
    sent.context("messages were lost, or the machine is far too busy")?
}

async fn stream(from: &End, to: &End, len: usize, count: u32, floor: &Floor) -> Result<Table> {
    let envelope = data_message(len);
    let count = count.next_multiple_of(BATCH);
    let (wire, overflow) = (to.wire_bytes(), from.metrics.overflow.get());
    let meter = Meter::start();
    messages(from, to, &envelope, count).await?;
    let spent = meter.spent();
    let count = f64::from(count);
    let wire = (to.wire_bytes() - wire) / count;
    let cpu_us = spent.cpu_s * 1e6 / count;
    let floor_us = floor.carry_ms(wire) * 1e3;
    let mut table = Table::default();
    table.put("cpu_per_message", Figure::new(cpu_us, "us").over(floor_us));
    table.put(
        "messages_per_second",
        Figure::new(count / spent.wall_s, "messages").by_the_wall(),
    );
    table.put(
        "payload_per_second",
        Figure::new(count * len as f64 / 1e6 / spent.wall_s, "MB").by_the_wall(),
    );
    table.put("wire_per_message", Figure::new(wire, "B").over(len as f64));
    table.put(
        "cores",
        Figure::new(spent.cpu_s / spent.wall_s, "cores").by_the_wall(),
    );
    let dropped = from.metrics.overflow.get() - overflow;
    table.put("dropped", Figure::new(dropped as f64, "messages"));
    table.put_others(spent);
    Ok(table)
}

/// Dials, shakes hands and hangs up so often.
async fn handshakes(
    from: &End,
    told: &mut mpsc::Receiver<Input>,
    to: &End,
    count: u32,
    at_once: u32,
    floor: &Floor,
) -> Result<Table> {
    let handle = from.comm.handle();
    let begin = |ticket: u32| {
        let refused = handle.identify(Ticket(ticket.into()), to.address.clone());
        ensure!(refused.is_none(), "a transport has no time");
        Ok(())
    };
    let (wire, meter) = (to.wire_bytes(), Meter::start());
    let mut begun = 0;
    let mut ended = 0;
    while ended < count {
        while begun < count && begun - ended < at_once {
            begin(begun)?;
            begun += 1;
        }
        let input = timeout(SAFETY_NET, told.recv()).await?;
        if let Some(Input::Identified { peer, .. }) = input {
            let peer = peer.map_err(anyhow::Error::msg)?;
            ensure!(peer.pki_id == to.me, "somebody else answered");
            ended += 1;
        }
    }
    let spent = meter.spent();
    let count = f64::from(count);
    let mut table = Table::default();
    table.put(
        "cpu_each",
        Figure::new(spent.cpu_s * 1e3 / count, "ms").over(floor.connection_ms()),
    );
    table.put(
        "per_second",
        Figure::new(count / spent.wall_s, "handshakes").by_the_wall(),
    );
    let wire = (to.wire_bytes() - wire) / count;
    table.put("wire_each", Figure::new(wire, "B"));
    table.put_others(spent);
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_length() {
        for len in [SMALL_LEN, LARGE_LEN] {
            // The length of a length may shrink with what it counts.
            let found = data_message(len).payload.len();
            assert!(found.abs_diff(len) <= 2, "{found}");
        }
    }
}
