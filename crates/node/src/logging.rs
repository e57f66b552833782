//! Logs as operators of Fabric know them: `FABRIC_LOGGING_SPEC` chooses what is written.
//!
//! A spec is a list, separated by `:`, of `level` or `logger[,logger…]=level`. Loggers are the
//! dotted component names of Fabric (`gossip.comm`, `gossip.state`, …), which are the `tracing`
//! targets here; a logger covers everything below it.

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// What is written when nothing else was asked for.
pub const DEFAULT_SPEC: &str = "info";

/// A logging spec that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecRefused {
    /// Not one of Fabric's levels.
    #[error(
        "logging spec {spec:?}: unknown level {level:?}; use debug, info, warning, error, panic or fatal"
    )]
    Level {
        /// The whole spec.
        spec: String,
        /// What stands for a level.
        level: String,
    },
    /// A part without logger before `=`.
    #[error("logging spec {spec:?}: no logger name before '=' in {part:?}")]
    Logger {
        /// The whole spec.
        spec: String,
        /// The part.
        part: String,
    },
}

/// Writes logs to standard error, filtered by a Fabric logging spec, as text or as JSON lines.
/// A second call in one process changes nothing.
pub fn start(spec: &str, json: bool) -> Result<(), SpecRefused> {
    let filter = filter(spec)?;
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let layer = if json {
        layer.json().boxed()
    } else {
        layer.boxed()
    };
    // The only error is that a subscriber is already there, which is what the doc promises.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
    Ok(())
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

    /// Whether to write a line, and if so, how many were left out since the last one.
    pub(crate) fn line(&self, now: Instant) -> Option<u64> {
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
        Some(std::mem::take(&mut window.left_out))
    }
}

fn filter(spec: &str) -> Result<EnvFilter, SpecRefused> {
    Ok(EnvFilter::new(directives(spec)?))
}

/// The spec in the syntax of `tracing`. An empty spec means the default.
fn directives(spec: &str) -> Result<String, SpecRefused> {
    let mut fallback = level(spec, DEFAULT_SPEC)?;
    let mut directives = Vec::new();
    for part in spec
        .split(':')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        match part.rsplit_once('=') {
            None => fallback = level(spec, part)?,
            Some((loggers, name)) => {
                let level = level(spec, name)?;
                for logger in loggers.split(',').map(str::trim) {
                    // A trailing dot means "exactly this logger" in Fabric; targets have no such form.
                    let logger = logger.trim_end_matches('.');
                    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                    if logger.is_empty() || !logger.chars().all(legal) {
                        return Err(SpecRefused::Logger {
                            spec: spec.into(),
                            part: part.into(),
                        });
                    }
                    directives.push(format!("{logger}={level}"));
                }
            }
        }
    }
    directives.insert(0, fallback.to_owned());
    Ok(directives.join(","))
}

fn level(spec: &str, name: &str) -> Result<&'static str, SpecRefused> {
    match name.trim().to_ascii_lowercase().as_str() {
        "payload" => Ok("trace"),
        "debug" => Ok("debug"),
        "info" => Ok("info"),
        "warning" | "warn" => Ok("warn"),
        // What ends Go's process is an error here: we do not end it.
        "error" | "dpanic" | "panic" | "fatal" => Ok("error"),
        _ => Err(SpecRefused::Level {
            spec: spec.into(),
            level: name.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, expected: &str) {
        assert_eq!(directives(spec).unwrap(), expected, "{spec:?}");
    }

    #[test]
    fn fabric_specs_become_filters() {
        check("", "info");
        check("debug", "debug");
        check("WARNING", "warn");
        check("gossip=debug:info", "info,gossip=debug");
        check("info:gossip=debug", "info,gossip=debug");
        check(
            "gossip.comm,gossip.state=debug:msp=error",
            "info,gossip.comm=debug,gossip.state=debug,msp=error",
        );
        check("gossip.=fatal", "info,gossip=error");
    }

    #[test]
    fn what_others_cause_is_written_so_often_and_then_counted() {
        let (seldom, start) = (Seldom::new(), Instant::now());
        for _ in 0..SELDOM_LINES_MAX {
            assert_eq!(seldom.line(start), Some(0));
        }
        assert_eq!(seldom.line(start), None);
        assert_eq!(seldom.line(start + SELDOM_WINDOW / 2), None);
        assert_eq!(seldom.line(start + SELDOM_WINDOW), Some(2));
        assert_eq!(seldom.line(start + SELDOM_WINDOW), Some(0));
    }

    #[test]
    fn a_bad_spec_is_refused_with_the_reason() {
        let error = directives("gossip=loud").unwrap_err();
        assert_eq!(
            error,
            SpecRefused::Level {
                spec: "gossip=loud".into(),
                level: "loud".into()
            }
        );
        assert!(matches!(
            directives("=debug"),
            Err(SpecRefused::Logger { .. })
        ));
        assert!(matches!(
            directives("a b=debug"),
            Err(SpecRefused::Logger { .. })
        ));
        assert!(matches!(
            directives("x[y]=debug"),
            Err(SpecRefused::Logger { .. })
        ));
    }
}
