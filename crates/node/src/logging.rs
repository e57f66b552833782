//! Logs as operators of Fabric know them: `FABRIC_LOGGING_SPEC` chooses what is written, and what
//! was chosen can be changed while the program runs.
//!
//! Loggers are the dotted component names of Fabric (`gossip.comm`, `gossip.state`, …), which are
//! the `tracing` targets here.

mod spec;

use std::{
    collections::BTreeMap,
    fmt::Display,
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    Layer, Registry,
    fmt::MakeWriter,
    layer::{self, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

use self::spec::Spec;
pub use self::spec::SpecRefused;

/// What is written when nothing else was asked for.
pub const DEFAULT_SPEC: &str = "info";

/// Characters of a new spec that are written; whoever wants all of it can ask for it.
const SPEC_SHOWN_LEN_MAX: usize = 256;

static CHANGED: Seldom = Seldom::new();

/// The logs of this process. Copies are handles to the same.
#[derive(Clone, Debug)]
pub struct Logging(reload::Handle<Spec, Registry>);

/// Why another spec did not come into force. What was written before is written still.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChangeRefused {
    /// It cannot be used.
    #[error(transparent)]
    Spec(#[from] SpecRefused),
    /// Somebody else had begun to write the logs of this process.
    #[error("the logs of this process are not written by this program: choose where they are")]
    NotOurs,
}

impl Logging {
    /// What is written now, in a form that does not depend on how it was asked for: loggers by
    /// name, then the level of all others. None if others write the logs.
    pub fn spec(&self) -> Option<String> {
        self.0.with_current(Spec::to_string).ok()
    }

    /// Writes something else from now on.
    pub fn change(&self, spec: &str) -> Result<(), ChangeRefused> {
        let spec = Spec::parse(spec)?;
        if self.spec().is_some() {
            // By the old rules: the new ones may hide it.
            if let Some(left_out) = CHANGED.line(Instant::now()) {
                let shown: String = spec.to_string().chars().take(SPEC_SHOWN_LEN_MAX).collect();
                tracing::info!(target: "logging", left_out, "the logging spec changes to {shown}");
            }
        }
        self.0.reload(spec).map_err(|_gone| ChangeRefused::NotOurs)
    }
}

/// Writes logs to standard error, filtered by a Fabric logging spec, as text or as JSON lines.
/// In a process that writes logs already nothing changes, and what is returned changes nothing.
pub fn start(spec: &str, json: bool) -> Result<Logging, SpecRefused> {
    let ansi = std::io::stderr().is_terminal();
    let (logging, layer) = filtered(Spec::parse(spec)?, json, ansi, std::io::stderr);
    // The only error is that a subscriber is already there, which is what the doc promises.
    let _ = tracing_subscriber::registry().with(layer).try_init();
    Ok(logging)
}

fn filtered<W>(
    spec: Spec,
    json: bool,
    ansi: bool,
    writer: W,
) -> (Logging, impl Layer<Registry> + Send + Sync)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(ansi)
        .with_writer(writer);
    let lines = if json {
        lines.json().boxed()
    } else {
        lines.boxed()
    };
    let (filter, handle) = reload::Layer::new(spec);
    (Logging(handle), lines.with_filter(filter))
}

impl<S: Subscriber> layer::Filter<S> for Spec {
    fn enabled(&self, metadata: &Metadata<'_>, _: &layer::Context<'_, S>) -> bool {
        *metadata.level() <= self.level(metadata.target())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() <= self.level(metadata.target()) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.most())
    }
}

/// Lines that one place may write in [`SELDOM_WINDOW`].
const SELDOM_LINES_MAX: u32 = 10;

/// See [`SELDOM_LINES_MAX`].
const SELDOM_WINDOW: Duration = Duration::from_secs(10);

/// Keeps what others can cause at will from filling the log. One for each place that logs.
#[derive(Debug)]
pub(crate) struct Seldom(Mutex<Window>);

#[derive(Debug)]
struct Window {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Seldom {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Window {
            since: None,
            lines: 0,
            left_out: 0,
        }))
    }

    /// Whether to write a line, and if so, how many were left out since the last one, if any were:
    /// a field that is none is not written.
    pub(crate) fn line(&self, now: Instant) -> Option<Option<u64>> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = window
            .since
            .is_some_and(|since| now < since + SELDOM_WINDOW);
        if !current {
            (window.since, window.lines) = (Some(now), 0);
        }
        if window.lines >= SELDOM_LINES_MAX {
            window.left_out = window.left_out.saturating_add(1);
            return None;
        }
        window.lines += 1;
        Some(Some(std::mem::take(&mut window.left_out)).filter(|left_out| *left_out > 0))
    }
}

/// What is kept of a text that somebody else wrote.
const FOREIGN_LEN_MAX: usize = 256;

/// A text that somebody else had a hand in, for a log: short, and on its line.
pub(crate) fn foreign(text: impl Display) -> String {
    let text = text.to_string();
    let mut shown = String::new();
    for char in text.chars().take(FOREIGN_LEN_MAX) {
        match char {
            '"' | '\'' | '\\' => shown.push(char),
            other => shown.extend(other.escape_debug()),
        }
    }
    if text.chars().nth(FOREIGN_LEN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// How long something that was said is not said again.
const REPEAT_AFTER: Duration = Duration::from_secs(600);

/// Things said that are remembered. When it is full the oldest is forgotten, and then said again.
const SAID_MAX: usize = 1024;

/// Keeps one party that does the same again and again from being told of every time.
#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<BTreeMap<String, Instant>>);

/// What is told so often only, and of one party once in a while.
#[derive(Debug)]
pub(crate) struct Unsaid {
    lines: Seldom,
    said: Said,
}

impl Unsaid {
    pub(crate) const fn new() -> Self {
        Self {
            lines: Seldom::new(),
            said: Said(Mutex::new(BTreeMap::new())),
        }
    }

    /// As [`Seldom::line`], for something that comes again and again.
    pub(crate) fn unsaid(&self, what: String, now: Instant) -> Option<Option<u64>> {
        if self.said.has(&what, now) {
            return None;
        }
        // What is not written does not count as told.
        let line = self.lines.line(now)?;
        self.said.note(what, now);
        Some(line)
    }

    /// As [`Seldom::line`].
    pub(crate) fn line(&self, now: Instant) -> Option<Option<u64>> {
        self.lines.line(now)
    }
}

impl Said {
    /// Whether this was said lately.
    pub(crate) fn has(&self, what: &str, now: Instant) -> bool {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = said.get(what);
        at.is_some_and(|at| now < *at + REPEAT_AFTER)
    }

    /// This is said now.
    pub(crate) fn note(&self, what: String, now: Instant) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= SAID_MAX
            && let Some(oldest) = said.iter().min_by_key(|(_, at)| **at)
            && let oldest = oldest.0.clone()
        {
            said.remove(&oldest);
        }
        said.insert(what, now);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{io, sync::Arc};

    use super::*;

    #[test]
    fn what_others_cause_is_written_so_often_and_then_counted() {
        let (seldom, start) = (Seldom::new(), Instant::now());
        for _ in 0..SELDOM_LINES_MAX {
            assert_eq!(seldom.line(start), Some(None));
        }
        assert_eq!(seldom.line(start), None);
        assert_eq!(seldom.line(start + SELDOM_WINDOW / 2), None);
        assert_eq!(seldom.line(start + SELDOM_WINDOW), Some(Some(2)));
        assert_eq!(seldom.line(start + SELDOM_WINDOW), Some(None));
    }

    /// What was written.
    #[derive(Clone, Default)]
    pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

    /// Writes to memory what a subscriber is told, as long as it is there.
    pub(crate) fn to_memory(spec: &str) -> (Logging, impl Subscriber + Send + Sync, Lines) {
        let lines = Lines::default();
        let writer = lines.clone();
        let spec = Spec::parse(spec).unwrap();
        let (logging, layer) = filtered(spec, false, false, move || writer.clone());
        (logging, tracing_subscriber::registry().with(layer), lines)
    }

    impl Lines {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Says one thing at many places and gives who was heard.
    pub(crate) fn heard(lines: &Lines) -> String {
        lines.0.lock().unwrap().clear();
        tracing::debug!(target: "gossip.comm", "comm-debug");
        tracing::info!(target: "gossip.comm", "comm-info");
        tracing::warn!(target: "gossip.state", "state-warn");
        tracing::debug!(target: "gossip", "gossip-debug");
        tracing::info!(target: "h2::codec", "h2-info");
        let text = lines.text();
        let words = text.lines().filter_map(|line| line.rsplit(' ').next());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn changes_are_written_so_often_and_so_far() {
        let (logging, subscriber, lines) = to_memory("info");
        tracing::subscriber::with_default(subscriber, || {
            let long = (0..100).map(|n| format!("gossip.logger{n}=debug:"));
            let long: String = long.chain(["info".to_owned()]).collect();
            for _ in 0..2 * SELDOM_LINES_MAX {
                logging.change(&long).unwrap();
            }
            let text = lines.text();
            let most = usize::try_from(SELDOM_LINES_MAX).unwrap();
            assert!(text.lines().count() <= most, "{text}");
            for line in text.lines() {
                let (_, shown) = line.split_once(" changes to ").unwrap();
                let (shown, _) = shown.split_once(" left_out").unwrap_or((shown, ""));
                assert_eq!(shown.len(), SPEC_SHOWN_LEN_MAX, "{line}");
            }
        });
    }

    #[test]
    fn another_spec_changes_what_is_written_from_the_next_line_on() {
        let (logging, subscriber, lines) = to_memory("warn");
        tracing::subscriber::with_default(subscriber, || {
            assert_eq!(heard(&lines), "state-warn");
            logging.change("gossip.=debug:info").unwrap();
            assert_eq!(logging.spec().unwrap(), "gossip.=debug:info");
            assert_eq!(heard(&lines), "comm-info state-warn gossip-debug h2-info");
            logging.change("gossip=debug:h2=error").unwrap();
            let all = "comm-debug comm-info state-warn gossip-debug";
            assert_eq!(heard(&lines), all);
            let refused = logging.change("gossip=loud").unwrap_err();
            assert!(matches!(refused, ChangeRefused::Spec(_)), "{refused}");
            assert_eq!(logging.spec().unwrap(), "gossip=debug:h2=error:info");
            assert_eq!(heard(&lines), all, "the old one stays in force");
        });
        assert_eq!(logging.change("info"), Err(ChangeRefused::NotOurs));
        assert_eq!(logging.spec(), None);
    }

    #[test]
    fn what_others_write_is_short_and_stays_on_its_line() {
        assert_eq!(foreign("it's \"so\""), "it's \"so\"");
        assert_eq!(
            foreign("a\r\n\u{1b}[1mb\u{2028}"),
            "a\\r\\n\\u{1b}[1mb\\u{2028}"
        );
        let most = "é".repeat(FOREIGN_LEN_MAX);
        assert_eq!(foreign(&most), most);
        assert_eq!(foreign(format!("{most}x")), format!("{most}…"));
    }

    #[test]
    fn what_was_said_is_said_again_after_a_while() {
        let (said, start) = (Said::default(), Instant::now());
        assert!(!said.has("a", start));
        said.note("a".to_owned(), start);
        assert!(!said.has("b", start));
        assert!(said.has("a", start + REPEAT_AFTER - Duration::from_secs(1)));
        assert!(!said.has("a", start + REPEAT_AFTER));
    }

    #[test]
    fn so_much_is_remembered_as_said_and_the_oldest_is_forgotten() {
        let (said, start) = (Said::default(), Instant::now());
        let at = |n: usize| start + Duration::from_millis(n as u64);
        for n in 0..=SAID_MAX {
            said.note(n.to_string(), at(n));
        }
        assert_eq!(said.0.lock().unwrap().len(), SAID_MAX);
        assert!(!said.has("0", at(SAID_MAX)), "it was the oldest");
        assert!(said.has("1", at(SAID_MAX)));
    }
}
