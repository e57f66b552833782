//! Many threads that want something written, and one that writes for all.
//!
//! Promises: whoever submits a job waits until a group with it was run; while one group runs the
//! next one gathers, so that jobs share what a run costs. No thread of its own: the first to wait
//! runs the group for the others. Jobs are run in the order in which they were submitted.
//!
//! What waits is bounded by the threads that call: each waits for its own job.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Gathers jobs of type `J`, each of which has an outcome of type `O`.
#[derive(Debug)]
pub(crate) struct Group<J, O> {
    state: Mutex<State<J, O>>,
    changed: Condvar,
    jobs_max: usize,
    weight_max: usize,
}

#[derive(Debug)]
struct State<J, O> {
    waiting: VecDeque<Waiting<J>>,
    /// Nothing if the thread that ran the group broke off.
    done: BTreeMap<u64, Option<O>>,
    tickets: u64,
    /// Somebody runs a group.
    running: bool,
}

#[derive(Debug)]
struct Waiting<J> {
    ticket: u64,
    job: J,
    weight: usize,
}

impl<J, O> Group<J, O> {
    /// Groups of at most so many jobs, whose weights come to at most so much; a single job may
    /// weigh more.
    pub(crate) fn new(jobs_max: usize, weight_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                done: BTreeMap::new(),
                tickets: 0,
                running: false,
            }),
            changed: Condvar::new(),
            jobs_max,
            weight_max,
        }
    }

    /// Waits until a group with this job was run, by `run` of this thread or of another one.
    /// `run` answers each job in its place. Nothing if the thread that ran it broke off.
    pub(crate) fn submit(
        &self,
        job: J,
        weight: usize,
        run: impl Fn(Vec<J>) -> Vec<O>,
    ) -> Option<O> {
        let mut state = self.lock();
        let ticket = state.tickets;
        state.tickets += 1;
        state.waiting.push_back(Waiting {
            ticket,
            job,
            weight,
        });
        loop {
            if let Some(outcome) = state.done.remove(&ticket) {
                return outcome;
            }
            if state.running {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.running = true;
            let (tickets, jobs) = state.next_group(self.jobs_max, self.weight_max);
            drop(state);
            let mut report = Report {
                group: self,
                tickets,
                outcomes: Vec::new(),
            };
            report.outcomes = run(jobs);
            drop(report);
            state = self.lock();
        }
    }

    /// Everything under the lock is done in one step, so a poisoned lock guards a whole value.
    fn lock(&self) -> MutexGuard<'_, State<J, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn waiting_len(&self) -> usize {
        self.lock().waiting.len()
    }
}

impl<J, O> State<J, O> {
    fn next_group(&mut self, jobs_max: usize, weight_max: usize) -> (Vec<u64>, Vec<J>) {
        let (mut tickets, mut jobs, mut weight) = (Vec::new(), Vec::new(), 0_usize);
        while let Some(next) = self.waiting.front() {
            let sum = weight.saturating_add(next.weight);
            if !jobs.is_empty() && (jobs.len() == jobs_max || sum > weight_max) {
                break;
            }
            weight = sum;
            if let Some(next) = self.waiting.pop_front() {
                tickets.push(next.ticket);
                jobs.push(next.job);
            }
        }
        (tickets, jobs)
    }
}

/// Tells the outcomes when it is dropped, which happens in a panic too: the others would wait
/// forever.
struct Report<'a, J, O> {
    group: &'a Group<J, O>,
    tickets: Vec<u64>,
    outcomes: Vec<O>,
}

impl<J, O> Drop for Report<'_, J, O> {
    fn drop(&mut self) {
        let mut outcomes = std::mem::take(&mut self.outcomes).into_iter();
        let mut state = self.group.lock();
        for ticket in &self.tickets {
            state.done.insert(*ticket, outcomes.next());
        }
        state.running = false;
        drop(state);
        self.group.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::mpsc,
        thread,
    };

    use super::*;

    /// Submits 0, whose run waits until the others wait; answers the groups in which they ran.
    fn groups_behind_a_first(jobs_max: usize, weight_max: usize, weights: &[usize]) -> Vec<usize> {
        let group: Group<usize, usize> = Group::new(jobs_max, weight_max);
        let lens = Mutex::new(Vec::new());
        let run = |jobs: Vec<usize>| {
            while jobs == [0] && group.waiting_len() < weights.len() {
                thread::yield_now();
            }
            lens.lock().unwrap().push(jobs.len());
            jobs.iter().map(|job| job * 10).collect()
        };
        let (began, first_runs) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                group.submit(0, 1, |jobs| {
                    began.send(()).unwrap();
                    run(jobs)
                })
            });
            first_runs.recv().unwrap();
            for (at, weight) in weights.iter().enumerate() {
                let before = group.waiting_len();
                let (group, run) = (&group, &run);
                scope.spawn(move || {
                    assert_eq!(group.submit(at + 1, *weight, run), Some((at + 1) * 10));
                });
                // In order; the last one lets the first run end, and may be taken at once.
                while at + 1 < weights.len() && group.waiting_len() == before {
                    thread::yield_now();
                }
            }
        });
        assert!(group.lock().done.is_empty() && group.lock().waiting.is_empty());
        lens.into_inner().unwrap()
    }

    #[test]
    fn what_gathers_while_one_group_runs_is_the_next_group() {
        assert_eq!(groups_behind_a_first(100, 100, &[1; 50]), [1, 50]);
    }

    #[test]
    fn a_group_has_so_many_jobs() {
        assert_eq!(groups_behind_a_first(4, 100, &[1; 9]), [1, 4, 4, 1]);
    }

    #[test]
    fn a_group_weighs_so_much_unless_it_is_one_job() {
        let lens = groups_behind_a_first(100, 10, &[4, 6, 1, 11, 10, 1]);
        assert_eq!(lens, [1, 2, 1, 1, 1, 1]);
    }

    #[test]
    fn whoever_waits_for_a_thread_that_breaks_off_is_told() {
        let group: Group<usize, usize> = Group::new(10, 10);
        let (began, first_runs) = mpsc::channel();
        let run = |jobs: Vec<usize>| -> Vec<usize> {
            if jobs == [0] {
                began.send(()).unwrap();
                while group.waiting_len() < 2 {
                    thread::yield_now();
                }
                return jobs;
            }
            panic!("a bug");
        };
        let submit = |job| catch_unwind(AssertUnwindSafe(|| group.submit(job, 1, run)));
        thread::scope(|scope| {
            let first = scope.spawn(|| submit(0));
            first_runs.recv().unwrap();
            let others = [scope.spawn(|| submit(1)), scope.spawn(|| submit(2))];
            assert!(matches!(first.join().unwrap(), Ok(Some(0))));
            let [one, other] = others.map(|other| other.join().unwrap());
            let (broke, told) = if one.is_err() {
                (one, other)
            } else {
                (other, one)
            };
            assert!(broke.is_err());
            assert!(matches!(told, Ok(None)));
        });
        assert_eq!(
            group.submit(3, 1, |jobs| jobs),
            Some(3),
            "the next one runs"
        );
    }
}
