//! TLS certificates that somebody renews on disk while a node runs.
//!
//! The files are looked at once a minute, and at once on SIGHUP. Files that do not fit together,
//! as between the copying of a certificate and of its key, change nothing and are looked at again.

use std::time::Duration;

use anyhow::{Context, Result};
use tidings_node::core_config::{CoreConfig, Settings};
use tidings_node::service::RunningNode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the files are looked at by themselves. They are a handful, and small.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The files that the configuration named at the start.
pub(super) struct Renewal {
    config: CoreConfig,
    hangup: Signal,
    look: Interval,
    /// What is wrong with them, if that was said.
    told: Option<String>,
}

impl Renewal {
    /// From now on SIGHUP does not end the process.
    pub(super) fn new(config: CoreConfig) -> Result<Self> {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is now, when the files have just been read.
        look.reset();
        Ok(Self {
            config,
            hangup: signal(SignalKind::hangup()).context("cannot listen to SIGHUP")?,
            look,
            told: None,
        })
    }

    /// Waits until it is time for [`Self::look`].
    pub(super) async fn due(&mut self) {
        tokio::select! {
            _ = self.hangup.recv() => {
                tracing::info!(target: "peer", "SIGHUP: looking for new TLS certificates");
                // Whoever asks is answered again.
                self.told = None;
            }
            _ = self.look.tick() => {}
        }
    }

    /// Has the node take up what is new.
    pub(super) fn look(&mut self, node: &RunningNode) {
        let wrong = self.renew(node).err().map(|error| format!("{error:#}"));
        if let Some(wrong) = &wrong
            && self.told.as_ref() != Some(wrong)
        {
            tracing::warn!(target: "peer", "the TLS certificates stay as they are: {wrong}");
        }
        self.told = wrong;
    }

    fn renew(&self, node: &RunningNode) -> Result<()> {
        if let Some(settings) = Settings::read_tls(&self.config)? {
            node.renew_tls(&settings)?;
        }
        Ok(())
    }
}
