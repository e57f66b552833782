//! What is wrong with a node, for those who ask whether it is well.
//!
//! Promises: what is named here was true at that moment and keeps the node, or one of its channels,
//! from its work. What heals by itself is not named before it has lasted. Knows nothing of how it
//! is asked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tidings_gossip::id::ChannelId;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::driver::Request;

/// The protocol core and everything that it decides.
const GOSSIP: &str = "gossip";

/// The certificate that we sign by.
const IDENTITY: &str = "identity";

/// What is said of a core that has ended.
const STOPPED: &str = "the node has stopped";

/// How long the protocol core may take to answer. It answers between two inputs, each of which
/// takes microseconds.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// How long an answer of the core serves all who ask. Anybody may ask at any rate, and the core
/// has other things to do.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(1);

/// How long a leader may be without an orderer. Several are tried within it, with their back-off.
const WITHOUT_ORDERER_MAX: Duration = Duration::from_secs(60);

/// How long an orderer must have served us to count. One that refuses us does so sooner.
const SERVED_MIN: Duration = Duration::from_secs(10);

/// Something that is not well.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailedCheck {
    /// `gossip`, `identity`, or `ledger`, `orderer-connection` or `validity` with `/` and a channel.
    pub component: String,
    /// What is wrong, for a person.
    pub reason: String,
}

/// The health of one node. Copies share everything.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// What the core was asked last, and when it had answered. Held while it is asked: whoever
    /// asks at the same time gets the same answer.
    heard: tokio::sync::Mutex<Option<(tokio::time::Instant, Result<(), String>)>>,
}

#[derive(Debug, Default)]
struct State {
    /// What will not come back before the next start, by component.
    broken: BTreeMap<String, String>,
    /// Channels whose blocks are to be pulled from orderers.
    pulls: BTreeMap<ChannelId, Pull>,
    /// End of our identity's validity, in seconds since the Unix epoch.
    identity_ends_at: Option<i64>,
    /// Weak, for the core ends when nobody can ask anything of it.
    core: Option<mpsc::WeakSender<Request>>,
}

#[derive(Debug)]
struct Pull {
    connected_since: Option<Instant>,
    /// Since when no orderer has served us for long enough to count.
    alone_since: Instant,
    /// What the last orderer did.
    last: String,
}

impl Health {
    /// Of a node that has not been started.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that is not well now, by component.
    pub async fn failed_checks(&self) -> Vec<FailedCheck> {
        let core = self.state().core.clone();
        let silent = match core {
            Some(core) => self.silent(&core).await,
            None => None,
        };
        let mut failed = self.known(Instant::now(), SystemTime::now());
        if let Some(reason) = silent {
            failed.entry(GOSSIP.to_owned()).or_insert(reason);
        }
        let failed = failed.into_iter();
        failed
            .map(|(component, reason)| FailedCheck { component, reason })
            .collect()
    }

    /// Why the core does not answer, if it does not, as of a second ago at most.
    async fn silent(&self, core: &mpsc::WeakSender<Request>) -> Option<String> {
        let mut heard = self.0.heard.lock().await;
        // A node that has stopped is told at once.
        let Some(core) = core.upgrade() else {
            return Some(STOPPED.to_owned());
        };
        if let Some((at, answer)) = &*heard
            && at.elapsed() < ANSWER_AGE_MAX
        {
            return answer.clone().err();
        }
        let answer = asked(core).await;
        *heard = Some((tokio::time::Instant::now(), answer.clone()));
        answer.err()
    }

    /// The node is started: this is its core, and this is when its identity ends.
    pub(crate) fn started(&self, core: mpsc::WeakSender<Request>, identity_ends_at: i64) {
        let mut state = self.state();
        state.core = Some(core);
        state.identity_ends_at = Some(identity_ends_at);
    }

    /// The core broke off.
    pub(crate) fn gossip_broke(&self, reason: &str) {
        self.broke(GOSSIP.to_owned(), reason);
    }

    /// The ledger of a channel takes no more blocks.
    pub(crate) fn ledger_broke(&self, channel: &ChannelId, reason: &str) {
        self.broke(of_ledger(channel), reason);
    }

    /// Peers say different things of a block of this channel.
    pub(crate) fn disagreed(&self, channel: &ChannelId, reason: &str) {
        self.broke(of_validity(channel), reason);
    }

    /// They say different things of no block any more.
    pub(crate) fn agreed(&self, channel: &ChannelId) {
        self.state().broken.remove(&of_validity(channel));
    }

    /// Nothing of this channel is to be told any more.
    pub(crate) fn forget_channel(&self, channel: &ChannelId) {
        let mut state = self.state();
        state.pulls.remove(channel);
        state.broken.remove(&of_ledger(channel));
        state.broken.remove(&of_validity(channel));
    }

    /// Blocks of this channel are to be pulled from an orderer; which one makes no difference.
    pub(crate) fn pull_wanted(&self, channel: &ChannelId, now: Instant) {
        let mut state = self.state();
        state.pulls.entry(channel.clone()).or_insert_with(|| Pull {
            connected_since: None,
            alone_since: now,
            last: "has not said anything yet".to_owned(),
        });
    }

    /// Nothing is to be pulled for this channel any more.
    pub(crate) fn pull_ended(&self, channel: &ChannelId) {
        self.state().pulls.remove(channel);
    }

    /// An orderer serves us, or does not any more.
    pub(crate) fn pull_connected(&self, channel: &ChannelId, connected: bool, now: Instant) {
        let mut state = self.state();
        let Some(pull) = state.pulls.get_mut(channel) else {
            return;
        };
        let since = std::mem::replace(&mut pull.connected_since, connected.then_some(now));
        if since.is_some_and(|since| now.saturating_duration_since(since) >= SERVED_MIN) {
            pull.alone_since = now;
        }
    }

    /// What an orderer did that we cannot use.
    pub(crate) fn pull_failed(&self, channel: &ChannelId, reason: &str) {
        if let Some(pull) = self.state().pulls.get_mut(channel) {
            reason.clone_into(&mut pull.last);
        }
    }

    fn broke(&self, component: String, reason: &str) {
        let mut state = self.state();
        state
            .broken
            .entry(component)
            .or_insert_with(|| reason.to_owned());
    }

    fn known(&self, now: Instant, today: SystemTime) -> BTreeMap<String, String> {
        let state = self.state();
        let mut failed = state.broken.clone();
        for (channel, pull) in &state.pulls {
            let alone = now.saturating_duration_since(pull.alone_since);
            if pull.connected_since.is_none() && alone >= WITHOUT_ORDERER_MAX {
                let reason = format!(
                    "no orderer has served this channel for {} s; the last one {}",
                    alone.as_secs(),
                    pull.last
                );
                failed.insert(format!("orderer-connection/{channel}"), reason);
            }
        }
        let today = today.duration_since(UNIX_EPOCH).unwrap_or_default();
        let today = i64::try_from(today.as_secs()).unwrap_or(i64::MAX);
        if state.identity_ends_at.is_some_and(|end| end < today) {
            let reason = "the own certificate has expired, other peers refuse this node: renew it";
            failed.insert(IDENTITY.to_owned(), reason.to_owned());
        }
        failed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_ledger(channel: &ChannelId) -> String {
    format!("ledger/{channel}")
}

fn of_validity(channel: &ChannelId) -> String {
    format!("validity/{channel}")
}

/// Whether the core answers.
async fn asked(core: mpsc::Sender<Request>) -> Result<(), String> {
    let asked = async {
        let (done, answer) = oneshot::channel();
        let stopped = || STOPPED.to_owned();
        core.send(Request::Answer(done))
            .await
            .map_err(|_gone| stopped())?;
        answer.await.map_err(|_gone| stopped())
    };
    timeout(ANSWER_TIME_MAX, asked).await.unwrap_or_else(|_| {
        Err(format!(
            "the protocol core has not answered for {ANSWER_TIME_MAX:?}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(health: &Health, now: Instant, today: u64) -> Vec<(String, String)> {
        let today = UNIX_EPOCH + Duration::from_secs(today);
        health.known(now, today).into_iter().collect()
    }

    #[test]
    fn what_broke_stays_broken_and_keeps_its_first_reason() {
        let (health, now) = (Health::new(), Instant::now());
        assert!(told(&health, now, 0).is_empty());
        health.ledger_broke(&ChannelId::from("ch"), "no space");
        health.ledger_broke(&ChannelId::from("ch"), "again");
        health.gossip_broke("a bug");
        let expected = [("gossip", "a bug"), ("ledger/ch", "no space")];
        let expected = expected.map(|(component, reason)| (component.into(), reason.into()));
        assert_eq!(told(&health, now, 0), expected);
        health.forget_channel(&ChannelId::from("ch"));
        assert_eq!(told(&health, now, 0), expected[..1], "it was left");
    }

    #[test]
    fn a_leader_without_orderer_is_not_well_after_a_while() {
        let (health, channel, start) = (Health::new(), ChannelId::from("ch"), Instant::now());
        let well = |after| told(&health, start + after, 0).is_empty();
        health.pull_failed(&channel, "is of no interest");
        health.pull_wanted(&channel, start);
        assert!(well(WITHOUT_ORDERER_MAX - Duration::from_secs(1)));
        assert!(!well(WITHOUT_ORDERER_MAX));
        health.pull_failed(&channel, "is not reached");
        // Another attempt is no reason to wait from the beginning.
        health.pull_wanted(&channel, start + WITHOUT_ORDERER_MAX);
        let reason = "no orderer has served this channel for 61 s; the last one is not reached";
        let expected = ("orderer-connection/ch".to_owned(), reason.to_owned());
        let later = start + WITHOUT_ORDERER_MAX + Duration::from_secs(1);
        assert_eq!(told(&health, later, 0), [expected]);
        health.pull_connected(&channel, true, later);
        health.pull_connected(&channel, false, later + SERVED_MIN / 2);
        assert!(
            !well(2 * WITHOUT_ORDERER_MAX),
            "one that refuses us is none"
        );
        health.pull_connected(&channel, true, later);
        assert!(well(10 * WITHOUT_ORDERER_MAX));
        health.pull_connected(&channel, false, start + 10 * WITHOUT_ORDERER_MAX);
        assert!(well(10 * WITHOUT_ORDERER_MAX));
        assert!(!well(11 * WITHOUT_ORDERER_MAX));
        health.pull_ended(&channel);
        assert!(well(11 * WITHOUT_ORDERER_MAX), "others lead now");
    }

    #[test]
    fn an_expired_identity_is_told() {
        let (core, _requests) = mpsc::channel(1);
        let (health, now) = (Health::new(), Instant::now());
        health.started(core.downgrade(), 1000);
        assert!(told(&health, now, 1000).is_empty());
        assert_eq!(told(&health, now, 1001)[0].0, IDENTITY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_core_that_does_not_answer_is_told() {
        let health = Health::new();
        assert!(health.failed_checks().await.is_empty(), "not started");
        let (core, mut requests) = mpsc::channel(1);
        health.started(core.downgrade(), i64::MAX);
        let component = |checks: Vec<FailedCheck>| {
            let [check] = <[_; 1]>::try_from(checks).unwrap();
            assert_eq!(check.component, GOSSIP);
            check.reason
        };
        let silent = component(health.failed_checks().await);
        assert!(silent.contains("not answered for 5s"), "{silent}");
        let answering = async {
            while let Some(Request::Answer(done)) = requests.recv().await {
                // Of the check before, nobody waits any more.
                let _ = done.send(());
            }
        };
        tokio::select! {
            () = answering => unreachable!("the health holds the other end"),
            checks = async {
                assert_eq!(component(health.failed_checks().await), silent, "not asked again");
                tokio::time::advance(ANSWER_AGE_MAX).await;
                health.failed_checks().await
            } => assert_eq!(checks, []),
        }
        drop(requests);
        assert_eq!(health.failed_checks().await, [], "not asked again");
        tokio::time::advance(ANSWER_AGE_MAX).await;
        let gone = component(health.failed_checks().await);
        assert!(gone.contains("has stopped"), "{gone}");
        drop(core);
        assert_eq!(component(health.failed_checks().await), gone);
    }
}
