//! Dialling.
//!
//! Promises one connection for one dial: nothing here connects again behind the caller's back,
//! because what was learned about the peer belongs to this connection and no other.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{
    ALPN, ClientIdentity, Fault, Tls, TlsError,
    buffered::Buffered,
    stream::{Broke, Ending, Io, OwnedStream},
};

/// Pause before a refused connection is tried again within the time for the dial.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Interval of HTTP/2 pings. A Go server hangs up on clients that ping more often (C-G5).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// Wait for the answer to a ping.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes that may be under way on one HTTP/2 stream: enough for a gigabit over 8 ms, little
/// enough for a thousand peers.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes that may be under way on one HTTP/2 connection: several streams, so that one whose
/// messages are not taken does not hold up the others.
pub(crate) const CONNECTION_WINDOW: u32 = 8 << 20;

/// Bytes of an HTTP/2 frame that we take: a block of usual size is one frame, and as much as is
/// read of a stranger in any case. What is longer comes in several.
pub(crate) const FRAME_LEN_MAX: u32 = 64 << 10;

/// Where to find something that listens.
pub trait Dial: Send + Sync + 'static {
    /// Connects to a host and port, without TLS.
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Box<dyn Io>>>;
}

/// TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// Why an endpoint could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not `host:port`.
    #[error("{endpoint:?} is not of the form host:port")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// Nobody answered in time.
    #[error("cannot connect to {endpoint} within {limit:?}: {reason}")]
    Unreachable {
        /// What was dialled.
        endpoint: String,
        /// Time for the dial.
        limit: Duration,
        /// The last error.
        reason: String,
    },
    /// The endpoint does not answer.
    #[error("cannot connect to {endpoint}: {source}")]
    Tcp {
        /// What was dialled.
        endpoint: String,
        /// What failed.
        source: io::Error,
    },
    /// There is nobody to trust there.
    #[error("roots for {endpoint}: {source}")]
    Roots {
        /// What was dialled.
        endpoint: String,
        /// What is wrong with them.
        source: TlsError,
    },
    /// The server is not who it should be, or does not want us.
    #[error("TLS with {endpoint}: {}", Fault::of_handshake(source))]
    Tls {
        /// What was dialled.
        endpoint: String,
        /// What failed.
        source: io::Error,
    },
    /// The server does not speak HTTP/2.
    #[error("{endpoint} does not speak h2")]
    Alpn {
        /// What was dialled.
        endpoint: String,
    },
    /// The HTTP/2 connection could not be set up.
    #[error("HTTP/2 with {endpoint}: {source}")]
    Http {
        /// What was dialled.
        endpoint: String,
        /// What failed.
        source: tonic::transport::Error,
    },
}

/// A connection that was dialled. Ends when this is dropped, whatever still uses its channel.
#[derive(Debug)]
pub struct Dialed {
    /// For gRPC clients. Never connects again.
    pub channel: Channel,
    /// SHA-256 of the certificate that we presented; none without TLS.
    pub own_certificate_sha256: Option<[u8; 32]>,
    /// SHA-256 of the server's certificate; none without TLS.
    pub peer_certificate_sha256: Option<[u8; 32]>,
    broke: Broke,
    _owner: watch::Sender<()>,
}

impl Dialed {
    /// What TLS had against the connection after the handshake: servers judge a client's
    /// certificate when the client takes the handshake for done.
    pub(crate) fn broke(&self) -> Option<&Fault> {
        self.broke.get()
    }
}

/// Dials an endpoint (`host:port`) with TCP and TLS within a limit of time. A connection that is
/// refused is tried again until then, as Go does: peers restart.
pub async fn connect(
    dial: &dyn Dial,
    endpoint: &str,
    tls: Option<&Tls>,
    limit: Duration,
) -> Result<Dialed, DialError> {
    let (host, port) = parse(endpoint)?;
    let (owner, ending) = watch::channel(());
    let broke = Broke::default();
    let own = tls.map(Tls::client_side);
    let own_certificate_sha256 = own.as_ref().map(|own| own.certificate_sha256);
    let config = own.map(|own| own.config);
    let mut reason = "no answer".to_owned();
    let dialed = async {
        let io = reach(dial, host, port, &mut reason).await;
        "no TLS handshake".clone_into(&mut reason);
        over(io, endpoint, host, config, Ending::with(ending), &broke).await
    };
    match timeout(limit, dialed).await {
        Ok(Ok((channel, peer_certificate_sha256))) => Ok(Dialed {
            channel,
            own_certificate_sha256,
            peer_certificate_sha256,
            broke,
            _owner: owner,
        }),
        Ok(Err(error)) => Err(error),
        Err(_elapsed) => Err(DialError::Unreachable {
            endpoint: endpoint.to_owned(),
            limit,
            reason,
        }),
    }
}

/// Dials an endpoint (`host:port`) of the ordering service once; the caller limits the time. The
/// server has to chain to these roots (PEM or DER). Plain without an identity. Our certificate is
/// shown only if asked for here. The connection ends with its last user.
pub async fn channel<C: AsRef<[u8]>>(
    endpoint: &str,
    identity: Option<&ClientIdentity>,
    roots: &[C],
    show_certificate: bool,
) -> Result<Channel, DialError> {
    let (host, port) = parse(endpoint)?;
    let config = match identity {
        None => None,
        Some(identity) => {
            let config = identity.config(roots, show_certificate);
            let refused = |source| DialError::Roots {
                endpoint: endpoint.to_owned(),
                source,
            };
            Some(config.map_err(refused)?)
        }
    };
    let io = TcpDial
        .dial(host, port)
        .await
        .map_err(|source| DialError::Tcp {
            endpoint: endpoint.to_owned(),
            source,
        })?;
    let ending = Ending::never();
    let (channel, _) = over(io, endpoint, host, config, ending, &Broke::default()).await?;
    Ok(channel)
}

/// Host, without the brackets of an IPv6 address, and port.
pub(super) fn parse(endpoint: &str) -> Result<(&str, u16), DialError> {
    let bad = || DialError::Endpoint {
        endpoint: endpoint.to_owned(),
    };
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse().ok().ok_or_else(bad)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(address) => Ok((address, port)),
        None if host.is_empty() || host.contains(':') => Err(bad()),
        None => Ok((host, port)),
    }
}

async fn reach(dial: &dyn Dial, host: &str, port: u16, last: &mut String) -> Box<dyn Io> {
    loop {
        match dial.dial(host, port).await {
            Ok(io) => return io,
            Err(error) => *last = error.to_string(),
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn over(
    io: Box<dyn Io>,
    endpoint: &str,
    host: &str,
    tls: Option<Arc<ClientConfig>>,
    ending: Ending,
    broke: &Broke,
) -> Result<(Channel, Option<[u8; 32]>), DialError> {
    let (scheme, (io, sha256)) = match tls {
        None => ("http", (io, None)),
        Some(config) => ("https", secure(io, endpoint, host, config).await?),
    };
    let io = OwnedStream::new(io, ending).telling(broke);
    Ok((http2(io, endpoint, scheme).await?, sha256))
}

async fn secure(
    io: Box<dyn Io>,
    endpoint: &str,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<(Box<dyn Io>, Option<[u8; 32]>), DialError> {
    let name = ServerName::try_from(host.to_owned())
        .ok()
        .ok_or_else(|| DialError::Endpoint {
            endpoint: endpoint.to_owned(),
        })?;
    let io = TlsConnector::from(config)
        .connect(name, Buffered::new(io))
        .await
        .map_err(|source| DialError::Tls {
            endpoint: endpoint.to_owned(),
            source,
        })?;
    let session = io.get_ref().1;
    if session.alpn_protocol() != Some(ALPN) {
        return Err(DialError::Alpn {
            endpoint: endpoint.to_owned(),
        });
    }
    let certificates = session.peer_certificates().unwrap_or_default();
    let sha256 = certificates
        .first()
        .map(|leaf| tidings_msp::crypto::sha256(leaf));
    Ok((Box::new(io), sha256))
}

async fn http2(io: OwnedStream, endpoint: &str, scheme: &str) -> Result<Channel, DialError> {
    let bad = || DialError::Endpoint {
        endpoint: endpoint.to_owned(),
    };
    let origin: Uri = format!("{scheme}://{endpoint}")
        .parse()
        .ok()
        .ok_or_else(bad)?;
    let settings = Endpoint::from_shared(format!("http://{endpoint}"))
        .ok()
        .ok_or_else(bad)?
        .origin(origin)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_LEN_MAX);
    // tonic asks its connector again when the connection is lost; there is only this one.
    let only = Mutex::new(Some(io));
    let connector = service_fn(move |_: Uri| {
        let io = only.lock().ok().and_then(|mut only| only.take());
        std::future::ready(
            io.map(TokioIo::new)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)),
        )
    });
    settings
        .connect_with_connector(connector)
        .await
        .map_err(|source| DialError::Http {
            endpoint: endpoint.to_owned(),
            source,
        })
}
