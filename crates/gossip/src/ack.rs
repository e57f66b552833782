//! Sending to some peers and counting who confirms.
//!
//! Knows nothing of what is sent. A confirmation counts once, in time, and only from the peer
//! that it was asked of.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use rand::{RngExt, rngs::ChaCha8Rng};
use tidings_proto::gossip::Envelope;

use crate::{
    effect::Destination,
    id::{Moment, PkiId, Ticket},
    input::SendByCriteria,
    random, wire,
};

/// Acknowledged sends that wait at a time. At the limit further ones fail at once.
const PENDING_MAX: usize = 4096;

/// What happens to acknowledged sends.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an input is moved once, from where it is made to where it is handled"
)]
pub enum Input {
    /// Send and wait.
    Send {
        /// What, to how many, and how long to wait.
        request: SendByCriteria,
        /// Whom to choose from: alive members, or the members of the channel; none if the channel
        /// is unknown.
        pool: Option<Vec<Destination>>,
    },
    /// A peer confirms or rejects.
    Ack {
        /// Who.
        from: PkiId,
        /// Of which message.
        nonce: u64,
        /// Empty on success.
        error: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Over any connection to this peer; dial if there is none.
    Send {
        /// To whom.
        to: Destination,
        /// What.
        envelope: Envelope,
    },
    /// An acknowledged send ended.
    Acknowledged {
        /// Of the request.
        ticket: Ticket,
        /// Number of acknowledgements, or Fabric's JSON error text.
        result: Result<usize, String>,
    },
}

/// All acknowledged sends that wait.
#[derive(Debug)]
pub struct Acks {
    rng: ChaCha8Rng,
    /// By the nonce of the message.
    pending: BTreeMap<u64, Pending>,
    due: BTreeSet<(Moment, u64)>,
}

impl Acks {
    /// Waits for nothing.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self {
            rng: random::generator(seed, "ack"),
            pending: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Feeds one input.
    pub fn handle(&mut self, now: Moment, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Send { request, pool } => {
                let ticket = request.ticket;
                if let Some(result) = self.send(now, request, pool, out) {
                    out.push(Effect::Acknowledged { ticket, result });
                }
            }
            Input::Ack { from, nonce, error } => {
                let result = if error.is_empty() { Ok(()) } else { Err(error) };
                self.answered(from, nonce, result, out);
            }
        }
    }

    /// Ends what waited long enough.
    pub fn tick(&mut self, now: Moment, out: &mut Vec<Effect>) {
        while let Some((end, nonce)) = self.due.first().copied() {
            if now < end {
                break;
            }
            self.due.pop_first();
            if let Some(mut pending) = self.pending.remove(&nonce) {
                for answer in pending.answers.values_mut() {
                    answer.get_or_insert_with(|| Err("timed out".to_owned()));
                }
                out.push(pending.finish());
            }
        }
    }

    /// When [`Self::tick`] next has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        self.due.first().map(|(end, _)| *end)
    }

    /// Returns the result if there is nothing to wait for.
    fn send(
        &mut self,
        now: Moment,
        request: SendByCriteria,
        pool: Option<Vec<Destination>>,
        out: &mut Vec<Effect>,
    ) -> Option<Result<usize, String>> {
        if request.max_peers == 0 {
            return Some(Ok(0));
        }
        if request.timeout == Duration::ZERO {
            return Some(Err("a timeout must be given".to_owned()));
        }
        let Some(mut pool) = pool else {
            return Some(Err("the channel is unknown".to_owned()));
        };
        if let Some(eligible) = &request.eligible {
            let eligible: BTreeSet<&PkiId> = eligible.iter().collect();
            pool.retain(|to| eligible.contains(&to.peer));
        }
        let targets = random::pick(&mut self.rng, &pool, request.max_peers);
        if targets.len() < request.min_ack {
            return Some(Err(format!(
                "{} acknowledgements are needed but only {} peers are suitable",
                request.min_ack,
                targets.len()
            )));
        }
        if targets.is_empty() {
            return Some(Ok(0));
        }
        if self.pending.len() >= PENDING_MAX {
            return Some(Err("too many sends wait for acknowledgements".to_owned()));
        }
        let mut nonce: u64 = self.rng.random();
        while self.pending.contains_key(&nonce) {
            nonce = self.rng.random();
        }
        let mut message = request.message;
        message.nonce = nonce;
        let envelope = wire::unsigned(&message);
        let pending = Pending {
            ticket: request.ticket,
            min_ack: request.min_ack,
            ends: now + request.timeout,
            answers: targets.iter().map(|to| (to.peer, None)).collect(),
        };
        out.extend(targets.into_iter().map(|to| Effect::Send {
            to: to.clone(),
            envelope: envelope.clone(),
        }));
        self.due.insert((pending.ends, nonce));
        self.pending.insert(nonce, pending);
        None
    }

    fn answered(
        &mut self,
        from: PkiId,
        nonce: u64,
        result: Result<(), String>,
        out: &mut Vec<Effect>,
    ) {
        let Some(pending) = self.pending.get_mut(&nonce) else {
            return;
        };
        let Some(answer @ None) = pending.answers.get_mut(&from) else {
            return;
        };
        *answer = Some(result);
        if pending.is_decided()
            && let Some(pending) = self.pending.remove(&nonce)
        {
            self.due.remove(&(pending.ends, nonce));
            out.push(pending.finish());
        }
    }
}

#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    min_ack: usize,
    ends: Moment,
    answers: BTreeMap<PkiId, Option<Result<(), String>>>,
}

impl Pending {
    fn acks(&self) -> usize {
        let acked = |answer: &&Option<Result<(), String>>| matches!(answer, Some(Ok(())));
        self.answers.values().filter(acked).count()
    }

    /// Looked at after each answer. As in Go exactly as many successes as needed decide, so that
    /// with none needed the first failure does.
    fn is_decided(&self) -> bool {
        self.acks() == self.min_ack || self.answers.values().all(Option::is_some)
    }

    fn finish(self) -> Effect {
        let acks = self.acks();
        let result = if acks >= self.min_ack {
            Ok(acks)
        } else {
            Err(self.error_text(acks))
        };
        Effect::Acknowledged {
            ticket: self.ticket,
            result,
        }
    }

    fn error_text(&self, acks: usize) -> String {
        let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
        for answer in self.answers.values().flatten() {
            if let Err(reason) = answer {
                *failures.entry(reason).or_default() += 1;
            }
        }
        let mut parts = Vec::new();
        if !failures.is_empty() {
            let counts: Vec<String> = failures
                .into_iter()
                .map(|(reason, count)| format!("{}:{count}", json_string(reason)))
                .collect();
            parts.push(format!("\"failures\":{{{}}}", counts.join(",")));
        }
        if acks > 0 {
            parts.push(format!("\"successes\":{acks}"));
        }
        format!("{{{}}}", parts.join(","))
    }
}

/// A JSON string as Go writes it, with the characters escaped that matter within HTML.
fn json_string(text: &str) -> String {
    let mut json = String::from('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                // Writing to a string cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            _ => json.push(c),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests;
