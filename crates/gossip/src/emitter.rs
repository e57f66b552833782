//! Holds messages back for a moment so that those that belong together are routed together.
//!
//! Promises: a message is routed as often as the settings say, in the order of arrival, at the
//! latest one burst latency after it was the first to wait, and at once if it is urgent; nothing
//! wakes while nothing waits.
//! Knows nothing of peers, channels or what a message means.
//!
//! Rules: docs/protocol/dissemination.md.

use std::{collections::VecDeque, time::Duration};

use crate::{config::Config, effect::Notice, id::Moment, router::Outgoing};

/// Messages that may wait. Reached only when each is routed many times over, as a full burst
/// leaves at once; the oldest have been routed at least once by then and give way.
pub const WAITING_MAX: usize = 1000;

/// What the emitter is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Route this soon.
    Add(Outgoing),
    /// Route this now; it does not wait, and nothing that waits goes with it.
    Urgent(Outgoing),
}

/// What the emitter wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Route these, which are in the order of their arrival.
    Route(Vec<Outgoing>),
    /// To be known.
    Notify(Notice),
}

/// Collects messages to bursts.
#[derive(Debug)]
pub struct Emitter {
    iterations: u32,
    burst_size: usize,
    latency: Duration,
    waiting: VecDeque<Waiting>,
    due: Option<Moment>,
}

#[derive(Debug)]
struct Waiting {
    message: Outgoing,
    iterations_left: u32,
}

impl Emitter {
    /// Starts with nothing waiting.
    pub fn new(config: &Config) -> Self {
        Self {
            iterations: config.propagate_iterations,
            burst_size: config.max_propagation_burst_size,
            latency: config.max_propagation_burst_latency,
            waiting: VecDeque::new(),
            due: None,
        }
    }

    /// Feeds one input. With zero iterations nothing is ever routed.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        if self.iterations == 0 {
            return;
        }
        let (message, iterations_left) = match input {
            Input::Add(message) => (message, self.iterations),
            Input::Urgent(message) => {
                out.push(Effect::Route(vec![message.clone()]));
                if self.iterations == 1 {
                    return;
                }
                (message, self.iterations - 1)
            }
        };
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
            out.push(Effect::Notify(Notice::Warning(format!(
                "more than {WAITING_MAX} messages wait to be pushed, the oldest was dropped; \
                 lower peer.gossip.propagateIterations"
            ))));
        }
        self.waiting.push_back(Waiting {
            message,
            iterations_left,
        });
        if self.waiting.len() >= self.burst_size {
            self.emit(now, out);
        } else {
            self.due.get_or_insert(now + self.latency);
        }
    }

    /// Routes what waits once the first of it has waited long enough.
    pub fn tick(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if self.due.is_some_and(|due| due <= now) {
            self.emit(now, out);
        }
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        self.due
    }

    /// Messages that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn emit(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let batch = self.waiting.iter().map(|w| w.message.clone()).collect();
        out.push(Effect::Route(batch));
        self.waiting.retain_mut(|waiting| {
            waiting.iterations_left -= 1;
            waiting.iterations_left > 0
        });
        self.due = (!self.waiting.is_empty()).then(|| now + self.latency);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidings_proto::gossip::Envelope;

    use super::*;
    use crate::{id::PkiId, router::Subject};

    const LATENCY: Duration = Duration::from_millis(10);

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    fn message(number: u32) -> Outgoing {
        Outgoing {
            subject: Subject::Alive {
                speaker: PkiId::new([1; 32]),
                external_endpoint: String::new(),
            },
            envelope: Envelope::signed(Bytes::copy_from_slice(&number.to_be_bytes()), Bytes::new()),
            source: None,
        }
    }

    fn emitter(burst_size: usize, iterations: u32) -> Emitter {
        Emitter::new(&Config {
            max_propagation_burst_size: burst_size,
            propagate_iterations: iterations,
            max_propagation_burst_latency: LATENCY,
            ..Config::default()
        })
    }

    fn add(emitter: &mut Emitter, now: Moment, number: u32) -> Vec<Effect> {
        let mut out = Vec::new();
        emitter.handle(now, Input::Add(message(number)), &mut out);
        out
    }

    fn tick(emitter: &mut Emitter, now: Moment) -> Vec<Effect> {
        let mut out = Vec::new();
        emitter.tick(now, &mut out);
        out
    }

    fn route(numbers: &[u32]) -> Vec<Effect> {
        vec![Effect::Route(numbers.iter().map(|n| message(*n)).collect())]
    }

    #[test]
    fn the_first_to_wait_decides_when_all_leave() {
        let mut e = emitter(10, 1);
        assert_eq!(e.deadline(), None);
        assert_eq!(add(&mut e, at(3), 1), []);
        assert_eq!(add(&mut e, at(9), 2), []);
        assert_eq!(e.deadline(), Some(at(13)));
        assert_eq!(tick(&mut e, at(12)), []);
        assert_eq!(tick(&mut e, at(13)), route(&[1, 2]));
        assert_eq!(e.deadline(), None);
        assert_eq!(tick(&mut e, at(99)), []);
    }

    #[test]
    fn a_full_burst_leaves_at_once_in_order() {
        let mut e = emitter(3, 1);
        assert_eq!(add(&mut e, at(0), 1), []);
        assert_eq!(add(&mut e, at(0), 2), []);
        assert_eq!(add(&mut e, at(0), 3), route(&[1, 2, 3]));
        assert_eq!(e.deadline(), None);
    }

    #[test]
    fn what_is_urgent_leaves_by_itself_and_again_with_the_others() {
        let urgent = |emitter: &mut Emitter, number| {
            let mut out = Vec::new();
            emitter.handle(at(1), Input::Urgent(message(number)), &mut out);
            out
        };
        let mut e = emitter(10, 1);
        assert_eq!(add(&mut e, at(0), 1), []);
        assert_eq!(urgent(&mut e, 2), route(&[2]));
        assert_eq!(tick(&mut e, at(10)), route(&[1]));
        assert_eq!(urgent(&mut e, 3), route(&[3]));
        assert_eq!((e.deadline(), e.waiting()), (None, 0));
        let mut e = emitter(10, 2);
        assert_eq!(urgent(&mut e, 4), route(&[4]));
        assert_eq!(tick(&mut e, at(11)), route(&[4]));
        assert_eq!((e.deadline(), e.waiting()), (None, 0));
        assert_eq!(urgent(&mut emitter(10, 0), 5), []);
    }

    #[test]
    fn every_message_is_routed_once_per_iteration() {
        let mut e = emitter(10, 2);
        assert_eq!(add(&mut e, at(0), 1), []);
        assert_eq!(tick(&mut e, at(10)), route(&[1]));
        assert_eq!(e.deadline(), Some(at(20)));
        assert_eq!(add(&mut e, at(15), 2), []);
        assert_eq!(tick(&mut e, at(20)), route(&[1, 2]));
        assert_eq!(tick(&mut e, at(30)), route(&[2]));
        assert_eq!(e.deadline(), None);
    }

    #[test]
    fn no_iterations_route_nothing() {
        let mut e = emitter(1, 0);
        assert_eq!(add(&mut e, at(0), 1), []);
        assert_eq!(e.deadline(), None);
    }

    #[test]
    fn the_oldest_gives_way_at_the_limit() {
        let mut e = emitter(usize::MAX, 5);
        for number in 0..WAITING_MAX {
            assert_eq!(add(&mut e, at(0), u32::try_from(number).unwrap()), []);
        }
        let out = add(&mut e, at(0), 7777);
        assert!(matches!(
            out.as_slice(),
            [Effect::Notify(Notice::Warning(_))]
        ));
        let out = tick(&mut e, at(10));
        let [Effect::Route(batch)] = out.as_slice() else {
            panic!("one batch expected");
        };
        assert_eq!(batch.len(), WAITING_MAX);
        assert_eq!(batch.first(), Some(&message(1)));
        assert_eq!(batch.last(), Some(&message(7777)));
    }
}
