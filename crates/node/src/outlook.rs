//! Where it is found out what a node sees, and what is remembered of how it came to that.
//!
//! Promises: asking costs the core two short answers, however many ask for the dashboard; an answer
//! comes also from a node that stops or hangs, with what is known then. What is remembered is little of
//! each matter, so that what others can cause at will drives nothing else out.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_gossip::{
    Me,
    id::{ChannelId, PkiId},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::{
    comm::{CommHandle, Traffic},
    driver::Request,
    logging::foreign,
    status::Status,
    view::{Beside, View, ms},
    vitals::Vitals,
};

/// How long a view serves all who look at the dashboard. Its page asks once a second.
pub(crate) const VIEW_AGE_MAX: Duration = Duration::from_millis(800);

/// How long the core may take to say whom it heard, and comm whom it is connected to; a view is
/// made without that then.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// How long the page of the dashboard waits for the view that comes with it. It asks for the next in
/// any case, and should be there before a node is that hangs.
const SOON_MAX: Duration = Duration::from_millis(300);

/// Events that are remembered of each matter. Leaders change a few times a day; orderers that are
/// down fail more often, and are told of once as long as they do so in the same way.
const EVENTS_MAX: usize = 32;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Matter {
    /// Who pulls blocks from the orderers.
    Leadership,
    /// The orderers that blocks are pulled from.
    Orderer,
    /// Missing blocks that were asked of peers.
    CatchUp,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When, in milliseconds since 1970; of one that was repeated, the last time.
    pub at_ms: u64,
    /// What it is about.
    pub matter: Matter,
    /// In which channel.
    pub channel: String,
    /// What happened, for a person.
    pub text: String,
    /// Whom it is about in hex, if it is a member.
    pub peer: Option<String>,
    /// How often in a row.
    pub times: u64,
}

/// The way to what a node sees. Copies share everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outlook(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    window: OnceLock<Window>,
    history: Mutex<BTreeMap<Matter, VecDeque<Event>>>,
    /// The last view as JSON, and when it was made. Held while it is made: whoever asks at the
    /// same time gets the same.
    drawn: tokio::sync::Mutex<Option<(tokio::time::Instant, Bytes)>>,
}

/// Whom a node that was started can be asked by.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) me: Me,
    /// Where it listens.
    pub(crate) address: String,
    pub(crate) started: Instant,
    pub(crate) status: watch::Receiver<Status>,
    /// Weak, for the core ends when nobody can ask anything of it.
    pub(crate) core: mpsc::WeakSender<Request>,
    pub(crate) comm: CommHandle,
}

impl Vitals {
    /// What the node sees; none before it is started.
    pub async fn view(&self) -> Option<View> {
        let window = self.outlook.0.window.get()?;
        let (heard, traffic, failed) = tokio::join!(
            window.heard(),
            window.traffic(),
            self.health.failed_checks()
        );
        let beside = Beside {
            heard,
            traffic,
            failed,
            history: self.outlook.history(),
        };
        // The status is that of now, for the core was asked.
        let status = window.status.borrow().clone();
        Some(View {
            address: window.address.clone(),
            seen_at_ms: wall_ms(SystemTime::now()),
            up_ms: ms(window.started.elapsed()),
            ..View::of(&window.me, &status, &self.metrics, beside)
        })
    }

    /// The same as JSON, of a moment ago at most; `null` before the node is started.
    pub(crate) async fn drawn_view(&self) -> Bytes {
        let mut drawn = self.outlook.0.drawn.lock().await;
        if let Some((at, json)) = &*drawn
            && at.elapsed() < VIEW_AGE_MAX
        {
            return json.clone();
        }
        let view = self.view().await;
        let json = serde_json::to_vec(&view).expect("texts, numbers and lists of them are JSON");
        let json = Bytes::from(json);
        *drawn = Some((tokio::time::Instant::now(), json.clone()));
        json
    }

    /// The same, if it is there soon.
    pub(crate) async fn drawn_view_soon(&self) -> Option<Bytes> {
        timeout(SOON_MAX, self.drawn_view()).await.ok()
    }
}

#[cfg(test)]
impl Vitals {
    /// Shows this from now on.
    pub(crate) async fn pretend(&self, view: &View) {
        let later = tokio::time::Instant::now() + Duration::from_secs(3600);
        let json = serde_json::to_vec(view).unwrap();
        *self.outlook.0.drawn.lock().await = Some((later, json.into()));
    }
}

impl Outlook {
    /// The node is started.
    pub(crate) fn open(&self, window: Window) {
        let opened = self.0.window.set(window);
        assert!(opened.is_ok(), "vitals are made anew for each start");
    }

    /// Something happened.
    pub(crate) fn note(
        &self,
        matter: Matter,
        channel: &ChannelId,
        text: &str,
        peer: Option<PkiId>,
    ) {
        let event = Event {
            at_ms: wall_ms(SystemTime::now()),
            matter,
            channel: channel.as_str().to_owned(),
            text: foreign(text),
            peer: peer.map(|peer| hex::encode(peer.as_bytes())),
            times: 1,
        };
        remember(self.lock().entry(matter).or_default(), event);
    }

    fn history(&self) -> Vec<Event> {
        let events = self.lock().values().flatten().cloned().collect();
        let mut events: Vec<Event> = events;
        events.sort_by_key(|event| event.at_ms);
        events
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Matter, VecDeque<Event>>> {
        let history = &self.0.history;
        history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    async fn heard(&self) -> BTreeMap<PkiId, Duration> {
        let Some(core) = self.core.upgrade() else {
            return BTreeMap::new();
        };
        let asked = async {
            let (done, heard) = oneshot::channel();
            // Nobody there is known by the other end.
            let _ = core.send(Request::Heard(done)).await;
            heard.await.unwrap_or_default()
        };
        timeout(ANSWER_TIME_MAX, asked).await.unwrap_or_default()
    }

    async fn traffic(&self) -> Option<BTreeMap<PkiId, Traffic>> {
        let asked = timeout(ANSWER_TIME_MAX, self.comm.traffic());
        asked.await.ok().flatten()
    }
}

/// Adds an event, or counts it with the last one if it is the same.
fn remember(events: &mut VecDeque<Event>, event: Event) {
    let same = |last: &Event| {
        (&last.channel, &last.text, &last.peer) == (&event.channel, &event.text, &event.peer)
    };
    if let Some(last) = events.back_mut().filter(|last| same(last)) {
        (last.at_ms, last.times) = (event.at_ms, last.times + 1);
        return;
    }
    if events.len() == EVENTS_MAX {
        events.pop_front();
    }
    events.push_back(event);
}

fn wall_ms(now: SystemTime) -> u64 {
    ms(now.duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::me;

    #[test]
    fn little_of_each_matter_is_remembered_and_repeats_are_counted() {
        let (outlook, channel) = (Outlook::default(), ChannelId::from("ch"));
        outlook.note(Matter::Leadership, &channel, "this node leads", None);
        for number in 0..EVENTS_MAX + 5 {
            let text = format!("failure {number}");
            outlook.note(Matter::Orderer, &channel, &text, None);
            outlook.note(Matter::Orderer, &channel, &text, None);
        }
        let history = outlook.history();
        assert_eq!(history.len(), EVENTS_MAX + 1);
        let of = |matter| {
            let events = history.iter().filter(move |event| event.matter == matter);
            events.map(|event| (event.text.as_str(), event.times))
        };
        let leadership: Vec<_> = of(Matter::Leadership).collect();
        assert_eq!(leadership, [("this node leads", 1)]);
        assert_eq!(of(Matter::Orderer).next(), Some(("failure 5", 2)));
        assert_eq!(of(Matter::Orderer).next_back(), Some(("failure 36", 2)));
    }

    #[test]
    fn what_others_say_is_remembered_short() {
        let (outlook, channel) = (Outlook::default(), ChannelId::from("ch"));
        outlook.note(Matter::Orderer, &channel, &"x\n".repeat(10_000), None);
        let text = &outlook.history()[0].text;
        assert!(text.len() < 1000 && !text.contains('\n'), "{}", text.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_hangs_is_shown_in_time_and_with_what_is_wrong() {
        let vitals = Vitals::default();
        let (core, _requests) = mpsc::channel(1);
        let (comm, _commands) = CommHandle::to_nobody();
        let (_status, status) = watch::channel(Status::default());
        vitals.health.started(core.downgrade(), i64::MAX);
        vitals.outlook.open(Window {
            me: me(),
            address: "127.0.0.1:7051".to_owned(),
            started: Instant::now(),
            status,
            core: core.downgrade(),
            comm,
        });
        let start = tokio::time::Instant::now();
        let window = vitals.outlook.0.window.get().unwrap();
        let (heard, traffic) = tokio::join!(window.heard(), window.traffic());
        assert!(heard.is_empty() && traffic.is_none());
        assert_eq!(start.elapsed().as_secs(), ANSWER_TIME_MAX.as_secs());

        let start = tokio::time::Instant::now();
        assert_eq!(vitals.drawn_view_soon().await, None);
        assert_eq!(start.elapsed(), SOON_MAX);

        let start = tokio::time::Instant::now();
        let drawn = vitals.drawn_view().await;
        // The page waits for 8 s, which must be more.
        assert_eq!(start.elapsed().as_secs(), 5);
        let view: View = serde_json::from_slice(&drawn).unwrap();
        assert_eq!(view.failed[0].component, "gossip");
        assert!(!view.traffic_known, "nobody said that there is no link");
    }

    #[tokio::test]
    async fn there_is_no_view_before_the_start() {
        assert_eq!(Vitals::default().view().await, None);
        assert_eq!(Vitals::default().drawn_view().await, "null");
    }
}
