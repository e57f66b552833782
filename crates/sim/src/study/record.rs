//! Who had which block when, and what was sent for it.

use std::time::Duration;

use super::{Outcome, Scenario, outcome::Measured, scenario::WARM_UP};

/// Kept by the network over a run.
pub(super) struct Record {
    scenario: Scenario,
    /// By block, then by node.
    had: Vec<Vec<Option<Duration>>>,
    /// Bytes by node, of what is measured.
    sent: Vec<u64>,
    /// Messages, of what is measured.
    messages: u64,
    /// Whose times do not count.
    excused: Vec<bool>,
    /// How many (block, node) are still to come.
    missing: usize,
}

impl Record {
    pub(super) fn new(scenario: &Scenario, excused: Vec<bool>) -> Self {
        let counted = excused.iter().filter(|excused| !**excused).count();
        Self {
            scenario: scenario.clone(),
            had: vec![vec![None; scenario.nodes]; scenario.blocks],
            sent: vec![0; scenario.nodes],
            messages: 0,
            excused,
            missing: counted * scenario.blocks,
        }
    }

    /// This node has this block from now on. Whether that is news.
    pub(super) fn got(&mut self, node: usize, block: usize, now: Duration) -> bool {
        if self.had[block][node].is_some() {
            return false;
        }
        self.had[block][node] = Some(now);
        self.missing -= usize::from(!self.excused[node]);
        true
    }

    pub(super) fn has(&self, node: usize, block: usize) -> bool {
        self.had[block][node].is_some()
    }

    /// Whether all that count have all blocks.
    pub(super) fn complete(&self) -> bool {
        self.missing == 0
    }

    /// Counts what leaves: that of warm-up blocks, and before their end that of none, is not.
    pub(super) fn sent(&mut self, node: usize, size: usize, about: Option<usize>, now: Duration) {
        let measured = match about {
            Some(block) => block >= WARM_UP,
            None => now >= self.scenario.injected_at(WARM_UP),
        };
        if measured {
            self.sent[node] += size as u64;
            self.messages += 1;
        }
    }

    pub(super) fn outcome(&self, ended: Duration) -> Outcome {
        let counted = |node: &usize| !self.excused[*node];
        let mut measured = Measured::default();
        for block in WARM_UP..self.scenario.blocks {
            let start = self.scenario.injected_at(block);
            let nodes = (0..self.scenario.nodes).filter(counted);
            let times = nodes.map(|node| Some(self.had[block][node]?.saturating_sub(start)));
            measured.add(times, ended);
        }
        let receivers = (1..self.scenario.nodes).filter(counted).count();
        measured.outcome(
            &self.sent,
            self.messages,
            receivers,
            self.scenario.size,
            ended,
        )
    }
}
