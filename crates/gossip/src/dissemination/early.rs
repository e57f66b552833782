//! Views of members that nobody has said to lead yet: a view takes the shortest way, and the word of who
//! leads another one.
//!
//! Promises to keep few of them and not for long, and that no member has more than one place.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::message::View;
use crate::id::{Moment, PkiId};

/// Views that wait, each of another author. More would not all be of those who are about to lead.
const EARLY_MAX: usize = 4;

/// For so long. Who leads says so more often.
const EARLY_TIME: Duration = Duration::from_secs(10);

/// A view that waits, and who sent it.
#[derive(Clone, Debug)]
pub(super) struct Early {
    at: Moment,
    pub(super) from: PkiId,
    pub(super) view: Arc<View>,
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    all: VecDeque<Early>,
}

impl Waiting {
    /// Whether it may wait: changes of what is not here either are of no use.
    pub(super) fn keep(&mut self, now: Moment, from: PkiId, view: &Arc<View>) -> bool {
        let view = view.clone();
        let of_author = |early: &&mut Early| early.view.author == view.author;
        if let Some(known) = self.all.iter_mut().find(of_author) {
            if view.base == 0 && view.epoch > known.view.epoch {
                (known.from, known.view) = (from, view);
            }
            return true;
        }
        if self.all.len() >= EARLY_MAX {
            return false;
        }
        let at = now;
        self.all.push_back(Early { at, from, view });
        true
    }

    /// That of a member that leads by now.
    pub(super) fn of(&mut self, root: &PkiId) -> Option<Early> {
        let index = self.all.iter().position(|it| it.view.root == *root)?;
        self.all.remove(index)
    }

    /// When the first was kept for long enough.
    pub(super) fn due(&self) -> Option<Moment> {
        self.all.front().map(|early| early.at + EARLY_TIME)
    }

    /// Those whose authors do not lead, as it seems.
    pub(super) fn pop(&mut self, now: Moment) -> Option<Early> {
        self.due().filter(|due| *due <= now)?;
        self.all.pop_front()
    }
}
