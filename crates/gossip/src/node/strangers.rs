//! State infos of channels that we are not in.
//!
//! Peers of our own organization rely on us to pass them on. We cannot tell their channel, only
//! that two of them are about the same one.

use crate::{
    config::Config,
    id::{DIGEST_LEN, Moment, PkiId},
    message::StateInfo,
    store::Latest,
};

/// Times that a state info outlives its period of publication, as in Fabric.
const PERIODS_KEPT: u32 = 100;

/// State infos remembered. Only our own organization can fill it; beyond this many, new speakers
/// and channels are not passed on until old ones have expired.
pub(super) const STRANGERS_MAX: usize = 10_000;

/// State infos remembered of one speaker: it is in as many channels that we are not in. At the
/// limit its oldest is forgotten, which costs nobody else anything.
pub(super) const PER_SPEAKER_MAX: usize = 64;

/// Remembers which state infos were passed on.
#[derive(Debug)]
pub(super) struct Strangers {
    /// Only that and when it was said: nobody asks us for the text.
    latest: Latest<(PkiId, [u8; DIGEST_LEN]), ()>,
}

impl Strangers {
    pub(super) fn new(config: &Config) -> Self {
        let ttl = config.publish_state_info_interval * PERIODS_KEPT;
        Self {
            latest: Latest::new(Some(ttl)),
        }
    }

    /// Whether this is to be passed on: newer than what the speaker said before about that
    /// channel.
    pub(super) fn add(&mut self, now: Moment, info: &StateInfo) -> bool {
        let key = (info.peer, info.channel_mac);
        if !self.latest.is_news(&key, info.time) {
            return false;
        }
        let of_speaker = (info.peer, [0; DIGEST_LEN])..=(info.peer, [u8::MAX; DIGEST_LEN]);
        let said = self.latest.by_age(of_speaker);
        let is_new = !said.contains(&&key);
        if is_new
            && said.len() >= PER_SPEAKER_MAX
            && let Some(oldest) = said.first().copied().copied()
        {
            self.latest.remove(&oldest);
        }
        let has_room = self.latest.len() < STRANGERS_MAX || !is_new;
        has_room && self.latest.add(now, key, info.time, ())
    }

    pub(super) fn forget(&mut self, peer: &PkiId) {
        self.latest.retain(|(speaker, _), _| speaker != peer);
    }

    pub(super) fn tick(&mut self, now: Moment) {
        self.latest.expire(now);
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.latest.deadline()
    }

    pub(super) fn len(&self) -> usize {
        self.latest.len()
    }
}
