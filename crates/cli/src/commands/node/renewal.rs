//! TLS certificates that somebody renews on disk while a node runs.
//!
//! The files are looked at once a minute, and at once on SIGHUP. Files that do not fit together,
//! as between the copying of a certificate and of its key, change nothing and are looked at again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tidings_node::core_config::{CoreConfig, Settings};
use tidings_node::service::RunningNode;
use tidings_node::tls::TlsSettings;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::complaint::in_one_line;

/// How often the files are looked at by themselves. They are a handful, and small.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The files that the configuration named at the start.
pub(super) struct Renewal {
    config: Arc<Mutex<CoreConfig>>,
    /// A look at them that is under way. It may take for ever, as with a network folder that is
    /// gone, and nobody waits for it.
    reading: Option<JoinHandle<Result<Option<TlsSettings>>>>,
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
    pub(super) async fn due(&mut self) -> Result<Option<TlsSettings>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = reading.await;
                self.reading = None;
                return read.context("cannot look at the files")?;
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
                Ok(Settings::read_tls(&config)?)
            }));
        }
    }

    /// Has the node take up what is new.
    pub(super) fn take_up(&mut self, node: &RunningNode, read: Result<Option<TlsSettings>>) {
        let renewed = read.and_then(|settings| match settings {
            Some(settings) => Ok(node.renew_tls(&settings)?),
            None => Ok(false),
        });
        let asked = std::mem::take(&mut self.asked);
        if asked && matches!(renewed, Ok(false)) {
            tracing::info!(target: "peer", "the TLS certificates are unchanged");
        }
        let wrong = renewed.err().map(|error| in_one_line(&error));
        if let Some(wrong) = &wrong
            && self.told.as_ref() != Some(wrong)
        {
            tracing::warn!(target: "peer", "the TLS certificates stay as they are: {wrong}");
        }
        self.told = wrong;
    }
}
