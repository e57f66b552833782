//! TLS certificates that somebody renews on disk while a node runs.
//!
//! The files are looked at once a minute, and at once on SIGHUP. Files that do not fit together,
//! as between the copying of a certificate and of its key, change nothing and are looked at again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tidings_node::core_config::{CoreConfig, Settings};
use tidings_node::reception::{ListenersTls, Serving};
use tidings_node::service::RunningNode;
use tidings_node::tls::TlsSettings;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::complaint::in_one_line;

/// How often the files are looked at by themselves. They are a handful, and small.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What the files hold: of the port for peers, and of the servers beside it.
pub(super) type Read = (Result<Option<TlsSettings>>, Result<ListenersTls>);

/// The files that the configuration named at the start.
pub(super) struct Renewal {
    config: Arc<Mutex<CoreConfig>>,
    /// A look at them that is under way. It may take for ever, as with a network folder that is
    /// gone, and nobody waits for it.
    reading: Option<JoinHandle<Read>>,
    hangup: Signal,
    look: Interval,
    /// What is wrong with them, if that was said.
    told: Option<String>,
    /// Somebody wants to know what came of the next look.
    asked: bool,
}

impl Renewal {
    /// From now on SIGHUP does not end the process.
    pub(super) fn new(config: CoreConfig) -> Result<Self> {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is now, when the files have just been read.
        look.reset();
        Ok(Self {
            config: Arc::new(Mutex::new(config)),
            reading: None,
            hangup: signal(SignalKind::hangup()).context("cannot listen to SIGHUP")?,
            look,
            told: None,
            asked: false,
        })
    }

    /// Waits until the files were looked at, and gives what they hold. Nothing is lost by waiting
    /// for something else in between.
    pub(super) async fn due(&mut self) -> Read {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = reading.await;
                self.reading = None;
                return read.unwrap_or_else(|broken| {
                    let broken = Err(broken).context("cannot look at the files");
                    (broken, Ok(ListenersTls::new()))
                });
            }
            tokio::select! {
                _ = self.hangup.recv() => {
                    tracing::info!(target: "peer", "SIGHUP: looking for new TLS certificates");
                    // Whoever asks is answered again.
                    self.told = None;
                    self.asked = true;
                }
                _ = self.look.tick() => {}
            }
            let config = Arc::clone(&self.config);
            self.reading = Some(spawn_blocking(move || {
                let config = config.lock().unwrap_or_else(PoisonError::into_inner);
                let peers = Settings::read_tls(&config).map_err(Into::into);
                let servers = Settings::read_listeners_tls(&config).map_err(Into::into);
                (peers, servers)
            }));
        }
    }

    /// Has the node and its servers take up what is new, each for itself.
    pub(super) fn take_up(
        &mut self,
        node: &RunningNode,
        servers: &mut [Serving],
        (peers, listeners): Read,
    ) {
        let peers = peers.and_then(|settings| match settings {
            Some(settings) => Ok(node.renew_tls(&settings)?),
            None => Ok(false),
        });
        let mut renewed = vec![peers];
        match listeners {
            Ok(read) => renewed.extend(servers.iter_mut().map(|each| Ok(each.renew(&read)?))),
            Err(error) => renewed.push(Err(error)),
        }
        let asked = std::mem::take(&mut self.asked);
        if asked && renewed.iter().all(|renewed| matches!(renewed, Ok(false))) {
            tracing::info!(target: "peer", "the TLS certificates are unchanged");
        }
        let wrong = renewed.into_iter().filter_map(Result::err);
        let wrong: Vec<_> = wrong.map(|error| in_one_line(&error)).collect();
        let wrong = (!wrong.is_empty()).then(|| wrong.join("; "));
        if let Some(wrong) = &wrong
            && self.told.as_ref() != Some(wrong)
        {
            tracing::warn!(target: "peer", "the TLS certificates stay as they are: {wrong}");
        }
        self.told = wrong;
    }
}
