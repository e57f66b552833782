//! What no implementation gets below on this machine: the cryptography and the kernel's work, by
//! the libraries that the node uses, and nothing else.
//!
//! All figures are processor time, both ends of a connection together.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey},
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
        ParsedPublicKey,
    },
};
use rustls_pki_types::ServerName;
use serde::Serialize;
use tidings_node::tls::Tls;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    cost::{self, repeat},
    keys::Organization,
};

/// The largest record of TLS.
const RECORD_LEN: usize = 16 << 10;

/// What is written at once on loopback.
const WRITE_LEN: usize = 32 << 10;

/// Bytes in a pipe between two ends of a handshake.
const PIPE_LEN: usize = 64 << 10;

/// The floor of this machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Floor {
    /// A P-256 signature over a short message.
    pub(crate) p256_sign_us: f64,
    /// Its check.
    pub(crate) p256_verify_us: f64,
    /// Sealing and opening a megabyte in full records, with the cipher that two nodes of ours agree on.
    pub(crate) aes_128_gcm_us_per_mb: f64,
    /// The same with the longer key.
    pub(crate) aes_256_gcm_us_per_mb: f64,
    /// Hashing a megabyte.
    pub(crate) sha256_us_per_mb: f64,
    /// A megabyte over TCP on loopback.
    pub(crate) tcp_loopback_ms_per_mb: f64,
    /// The same within TLS.
    pub(crate) tls_loopback_ms_per_mb: f64,
    /// A TLS handshake with certificates of both sides, in memory.
    pub(crate) tls_handshake_ms: f64,
}

impl Floor {
    /// Measures each figure for about so long.
    pub(crate) async fn measure(each: Duration) -> Result<Self> {
        let (p256_sign_us, p256_verify_us) = signatures(each)?;
        let org = Organization::new()?;
        let tls = Tls::new(&org.tls_settings()?, SystemTime::now())?;
        let data = vec![7; 1_000_000];
        Ok(Self {
            p256_sign_us,
            p256_verify_us,
            aes_128_gcm_us_per_mb: sealing(&AES_128_GCM, each)?,
            aes_256_gcm_us_per_mb: sealing(&AES_256_GCM, each)?,
            sha256_us_per_mb: repeat(each, || {
                std::hint::black_box(digest(&SHA256, &data));
                Ok(())
            })? * 1e6,
            tcp_loopback_ms_per_mb: loopback(None, each).await? * 1e3,
            tls_loopback_ms_per_mb: loopback(Some(&tls), each).await? * 1e3,
            tls_handshake_ms: handshakes(&tls, each).await? * 1e3,
        })
    }

    /// Milliseconds for so many bytes within TLS, both ends.
    pub(crate) fn carry_ms(&self, bytes: f64) -> f64 {
        self.tls_loopback_ms_per_mb * bytes / 1e6
    }

    /// Milliseconds for a block of so many bytes at one node that gets so many copies of it: each
    /// carried, the hash of one and one signature checked.
    pub(crate) fn node_block_ms(&self, bytes: f64, copies: f64) -> f64 {
        let hash_ms = self.sha256_us_per_mb * bytes / 1e9;
        copies * self.carry_ms(bytes) + hash_ms + self.p256_verify_us / 1e3
    }

    /// Milliseconds for a gossip connection, both ends: TLS, then a signature of each side.
    pub(crate) fn connection_ms(&self) -> f64 {
        self.tls_handshake_ms + 2.0 * (self.p256_sign_us + self.p256_verify_us) / 1e3
    }

    /// Milliseconds for so many alive messages, each with two signatures.
    pub(crate) fn alive_ms(&self, messages: f64) -> f64 {
        2.0 * messages * self.p256_verify_us / 1e3
    }
}

/// Microseconds to sign and to verify.
fn signatures(each: Duration) -> Result<(f64, f64)> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
    let message = [7; 300];
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref())?;
    let signature = key.sign(&random, &message)?;
    let sign = repeat(each, || {
        std::hint::black_box(key.sign(&random, &message)?);
        Ok(())
    })?;
    let verify = || public.verify_sig(&message, signature.as_ref());
    let verify = repeat(each, || {
        verify().map_err(|_unspecified| anyhow!("a good signature is refused"))
    })?;
    Ok((sign * 1e6, verify * 1e6))
}

/// Microseconds for a megabyte.
fn sealing(algorithm: &'static Algorithm, each: Duration) -> Result<f64> {
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &[7; 32][..algorithm.key_len()])?);
    // The same again and again: what is sealed here is no secret.
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let mut record = vec![7; RECORD_LEN];
    let seconds = repeat(each, || {
        record.truncate(RECORD_LEN);
        key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut record)?;
        key.open_in_place(nonce(), Aad::empty(), &mut record)?;
        Ok(())
    })?;
    Ok(seconds * 1e6 * 1e6 / RECORD_LEN as f64)
}

/// Processor seconds for a megabyte from one task to another.
async fn loopback(tls: Option<&Tls>, each: Duration) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    let (client, server) = match tls {
        None => (Box::new(client) as Box<dyn Io>, Box::new(server) as _),
        Some(tls) => shake(tls, client, server).await?,
    };
    let spent = cost::cpu();
    let reader = tokio::spawn(read_all(server));
    let writer = tokio::spawn(write_for(client, each));
    let written = writer.await.context("the writer broke off")??;
    let read = reader.await.context("the reader broke off")??;
    anyhow::ensure!(written == read, "{written} bytes written, {read} read");
    let spent = cost::cpu().saturating_sub(spent);
    Ok(spent.as_secs_f64() * 1e6 / read as f64)
}

/// Bytes both ways.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type Ends = (Box<dyn Io>, Box<dyn Io>);

/// Both ends after their TLS handshake.
async fn shake<C: Io + 'static, S: Io + 'static>(tls: &Tls, client: C, server: S) -> Result<Ends> {
    let name = ServerName::try_from("127.0.0.1")?;
    let connector = TlsConnector::from(Arc::clone(&tls.client_config()));
    let acceptor = TlsAcceptor::from(tls.server_config());
    let (client, server) =
        tokio::try_join!(connector.connect(name, client), acceptor.accept(server))?;
    Ok((Box::new(client), Box::new(server)))
}

async fn write_for(mut to: Box<dyn Io>, time: Duration) -> Result<u64> {
    let (data, began) = (vec![7; WRITE_LEN], Instant::now());
    let mut written = 0;
    while began.elapsed() < time {
        to.write_all(&data).await?;
        written += data.len() as u64;
    }
    to.shutdown().await?;
    Ok(written)
}

async fn read_all(mut from: Box<dyn Io>) -> Result<u64> {
    let (mut data, mut read) = (vec![0; WRITE_LEN], 0);
    loop {
        match from.read(&mut data).await? {
            0 => return Ok(read),
            bytes => read += bytes as u64,
        }
    }
}

/// Processor seconds for a handshake.
async fn handshakes(tls: &Tls, each: Duration) -> Result<f64> {
    let (began, spent) = (Instant::now(), cost::cpu());
    let mut times = 0_u32;
    while times == 0 || began.elapsed() < each {
        let (client, server) = tokio::io::duplex(PIPE_LEN);
        shake(tls, client, server).await?;
        times += 1;
    }
    let spent = cost::cpu().saturating_sub(spent);
    Ok(spent.as_secs_f64() / f64::from(times))
}
