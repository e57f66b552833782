//! Many clients that read the blocks of a running peer at the same time, of whatever make it is.
//!
//! Not of the baseline, and not in this process alone: the peer that is asked runs by itself, on
//! this machine, so that what it spends can be told apart from what its clients do. Every client
//! has a connection of its own and compares each byte with what the first one got.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes};
use clap::Args;
use serde::Serialize;
use tidings_node::{
    msp_folder,
    tls::{Dialed, TcpDial, Tls, TlsSettings, connect},
};
use tidings_proto::{
    Message,
    common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader, Status},
    orderer::{SeekInfo, SeekPosition, SeekSpecified, seek_position},
    protos::{DeliverResponse, deliver_response::Type},
};
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::{
    Request, Status as Refused,
    client::Grpc,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use crate::{
    cost::Meter,
    report::{Figure, Table, Tables},
};

/// Connections that are being set up at a time; each costs both sides a handshake.
const HANDSHAKES_MAX: usize = 16;

/// How long a peer may take until it answers.
const CONNECT_MAX: Duration = Duration::from_secs(60);

/// Ticks a second in which Linux counts the time of a process.
const TICKS_PER_S: f64 = 100.0;

/// Blocks of a peer to many clients at the same time.
#[derive(Args, Debug, Serialize)]
pub(crate) struct Deliver {
    /// Where the peer listens, host:port.
    #[arg(long)]
    peer: String,
    /// Its process, to tell what it spends.
    #[arg(long)]
    pid: u32,
    /// The channel.
    #[arg(long)]
    channel: String,
    /// The clients' organization.
    #[arg(long)]
    msp_id: String,
    /// The clients' MSP folder.
    #[arg(long)]
    msp: PathBuf,
    /// The root of the peer's TLS certificate, PEM.
    #[arg(long)]
    tls_ca: PathBuf,
    /// A TLS certificate for the clients, PEM.
    #[arg(long)]
    tls_cert: PathBuf,
    /// Its key, PEM.
    #[arg(long)]
    tls_key: PathBuf,
    /// Clients.
    #[arg(long, default_value_t = 1000)]
    streams: usize,
    /// Blocks that each reads, from the first on.
    #[arg(long, default_value_t = 10_000)]
    blocks: u64,
    /// Read filtered blocks.
    #[arg(long)]
    filtered: bool,
}

/// Responses as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Refused;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Refused> {
        bytes::BufMut::put(out, item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Refused;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Refused> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// What the first client got, in order.
type Expected = Arc<Vec<OnceLock<Bytes>>>;

impl Deliver {
    pub(crate) async fn run(&self) -> Result<Tables> {
        let request = self.request()?;
        let tls = self.tls()?;
        let path = if self.filtered {
            "/protos.Deliver/DeliverFiltered"
        } else {
            "/protos.Deliver/Deliver"
        };
        let path = PathAndQuery::from_static(path);
        let resting = resident_mb(self.pid)?;
        let connections = self.connect(&tls).await?;
        let connected = resident_mb(self.pid)?;
        let len = usize::try_from(self.blocks)?;
        let expected: Expected = Arc::new((0..len).map(|_| OnceLock::new()).collect());
        let (meter, spent, began) = (Meter::start(), cpu_s(self.pid)?, Instant::now());
        let mut reading = JoinSet::new();
        for dialed in connections {
            let (request, path) = (request.clone(), path.clone());
            reading.spawn(read(dialed, request, path, Arc::clone(&expected)));
        }
        let (mut bytes, mut most) = (0, connected);
        let mut look = tokio::time::interval(Duration::from_millis(200));
        while !reading.is_empty() {
            tokio::select! {
                Some(read) = reading.join_next() => bytes += read.context("a client broke off")??,
                _ = look.tick() => most = most.max(resident_mb(self.pid)?),
            }
        }
        let wall = began.elapsed().as_secs_f64();
        let cpu = cpu_s(self.pid)? - spent;
        let clients = meter.spent();
        let mb = bytes as f64 / 1e6;
        let mut table = Table::default();
        table.put("delivered", Figure::new(mb, "MB"));
        table.put("wall", Figure::new(wall, "s").by_the_wall());
        table.put("rate", Figure::new(mb / wall, "MB/s").by_the_wall());
        table.put("peer_cpu", Figure::new(cpu, "s"));
        table.put("peer_cpu_per_mb", Figure::new(cpu * 1e3 / mb, "ms"));
        let blocks = self.blocks as f64 * self.streams as f64;
        table.put("peer_cpu_per_block", Figure::new(cpu * 1e6 / blocks, "us"));
        table.put("clients_cpu", Figure::new(clients.cpu_s, "s"));
        let mut memory = Table::default();
        memory.put("at_rest", Figure::new(resting, "MB"));
        memory.put("connected", Figure::new(connected, "MB"));
        memory.put("most", Figure::new(most, "MB"));
        memory.put("afterwards", Figure::new(resident_mb(self.pid)?, "MB"));
        let mut tables = Tables::default();
        tables.put("delivery", table);
        tables.put("memory", memory);
        Ok(tables)
    }

    fn tls(&self) -> Result<Tls> {
        let read = |path: &PathBuf| {
            fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let settings = TlsSettings {
            certificate: read(&self.tls_cert)?,
            key: read(&self.tls_key)?,
            roots: vec![read(&self.tls_ca)?],
            ..TlsSettings::default()
        };
        Ok(Tls::new(&settings, SystemTime::now())?)
    }

    /// The same for all: nothing in it belongs to a connection.
    fn request(&self) -> Result<Bytes> {
        let identity = msp_folder::load(&self.msp, &self.msp_id)?.signer;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = ChannelHeader {
            r#type: HeaderType::DeliverSeekInfo.into(),
            channel_id: self.channel.clone(),
            timestamp: Some(prost_types::Timestamp {
                seconds: i64::try_from(seconds)?,
                nanos: 0,
            }),
            ..ChannelHeader::default()
        };
        let signer = SignatureHeader {
            creator: identity.serialized().clone(),
            nonce: Bytes::from_static(&[7; 24]),
        };
        let at = |number| {
            let position = seek_position::Type::Specified(SeekSpecified { number });
            Some(SeekPosition {
                r#type: Some(position),
            })
        };
        let seek = SeekInfo {
            start: at(0),
            stop: at(self.blocks.saturating_sub(1)),
            ..SeekInfo::default()
        };
        let payload = Payload {
            header: Some(Header {
                channel_header: header.encode_to_vec().into(),
                signature_header: signer.encode_to_vec().into(),
            }),
            data: seek.encode_to_vec().into(),
        };
        let payload = Bytes::from(payload.encode_to_vec());
        let signature = identity.sign(&payload)?.into();
        Ok(Envelope { payload, signature }.encode_to_vec().into())
    }

    async fn connect(&self, tls: &Tls) -> Result<Vec<Dialed>> {
        let slots = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let mut dialing = JoinSet::new();
        for _ in 0..self.streams {
            let (slots, tls, peer) = (Arc::clone(&slots), tls.clone(), self.peer.clone());
            dialing.spawn(async move {
                let _slot = slots.acquire_owned().await?;
                Ok::<_, anyhow::Error>(connect(&TcpDial, &peer, Some(&tls), CONNECT_MAX).await?)
            });
        }
        let mut connections = Vec::new();
        while let Some(dialed) = dialing.join_next().await {
            connections.push(dialed??);
        }
        Ok(connections)
    }
}

/// Reads all blocks; how many bytes they had.
async fn read(
    dialed: Dialed,
    request: Bytes,
    path: PathAndQuery,
    expected: Expected,
) -> Result<u64> {
    let mut grpc = Grpc::new(dialed.channel.clone()).max_decoding_message_size(usize::MAX);
    grpc.ready().await.context("the connection is gone")?;
    let requests = futures_util::stream::iter([request]);
    let requests = futures_util::StreamExt::chain(requests, futures_util::stream::pending());
    let mut responses = grpc
        .streaming(Request::new(requests), path, Raw)
        .await?
        .into_inner();
    let mut bytes = 0;
    for (number, first) in expected.iter().enumerate() {
        let response = responses.message().await?;
        let response =
            response.with_context(|| format!("the stream ends before block {number}"))?;
        bytes += response.len() as u64;
        let same = first.get_or_init(|| Bytes::copy_from_slice(&response));
        ensure!(*same == response, "block {number} is not what others got");
    }
    let last = responses.message().await?.context("no status at the end")?;
    match DeliverResponse::decode(last)?.r#type {
        Some(Type::Status(status)) if status == i32::from(Status::Success) => Ok(bytes),
        other => bail!("it ends with {other:?}"),
    }
}

/// Processor seconds that a process has spent.
fn cpu_s(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name, which may hold anything, ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_S)
}

/// Memory of a process that is resident.
fn resident_mb(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: f64 = kilobytes.context("no VmRSS")?.parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
