//! Fabric's logging spec: parts separated by `:`, each a level for all loggers or
//! `logger[,logger…]=level`.
//!
//! A logger covers everything below it, by whole parts of its name; with a dot at its end it
//! covers only itself. Of several that cover a place the longest counts.

use std::{collections::BTreeMap, fmt};

use tracing::level_filters::LevelFilter;

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
    /// A part without the name of a logger before `=`, or with one that no logger can have.
    #[error("logging spec {spec:?}: no name of a logger before '=' in {part:?}")]
    Logger {
        /// The whole spec.
        spec: String,
        /// The part.
        part: String,
    },
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    loggers: BTreeMap<String, Level>,
    others: Level,
}

impl Spec {
    pub(super) fn parse(text: &str) -> Result<Self, SpecRefused> {
        let refuse = |level: &str| SpecRefused::Level {
            spec: text.to_owned(),
            level: level.to_owned(),
        };
        let level = |name: &str| Level::named(name).ok_or_else(|| refuse(name));
        let mut spec = Self {
            loggers: BTreeMap::new(),
            others: Level::Info,
        };
        for part in text.split(':').map(str::trim) {
            match part.split_once('=') {
                // As in Fabric, also where it stands last: `debug:` means `info`.
                None if part.is_empty() => spec.others = Level::Info,
                None => spec.others = level(part)?,
                Some((loggers, name)) => {
                    let level = level(name)?;
                    for logger in loggers.split(',').map(str::trim) {
                        if !is_name(logger.strip_suffix('.').unwrap_or(logger)) {
                            return Err(SpecRefused::Logger {
                                spec: text.to_owned(),
                                part: part.to_owned(),
                            });
                        }
                        spec.loggers.insert(logger.to_owned(), level);
                    }
                }
            }
        }
        Ok(spec)
    }

    /// The finest level that is written at this target.
    pub(super) fn level(&self, target: &str) -> LevelFilter {
        let exact = format!("{target}.");
        let mut name = exact.as_str();
        loop {
            if let Some(level) = self.loggers.get(name) {
                return level.filter();
            }
            // Libraries separate the parts of their names by `::`.
            match name.rfind(['.', ':']) {
                Some(end) => name = &name[..end],
                None => return self.others.filter(),
            }
        }
    }

    /// The finest level that is written anywhere.
    pub(super) fn most(&self) -> LevelFilter {
        let levels = self.loggers.values().chain([&self.others]);
        levels
            .map(|level| level.filter())
            .max()
            .unwrap_or(LevelFilter::OFF)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Sorted as texts, as Fabric does it: `a.b=info` before `a=info`.
        let mut parts: Vec<_> = self
            .loggers
            .iter()
            .map(|(logger, level)| format!("{logger}={}:", level.name()))
            .collect();
        parts.sort();
        write!(f, "{}{}", parts.concat(), self.others.name())
    }
}

/// Fabric's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Payload,
    Debug,
    Info,
    Warn,
    Error,
    Dpanic,
    Panic,
    Fatal,
}

impl Level {
    fn named(name: &str) -> Option<Self> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "payload" => Self::Payload,
            "debug" => Self::Debug,
            "info" | "notice" => Self::Info,
            "warning" | "warn" => Self::Warn,
            "error" | "critical" => Self::Error,
            "dpanic" => Self::Dpanic,
            "panic" => Self::Panic,
            "fatal" => Self::Fatal,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Dpanic => "dpanic",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Payload => LevelFilter::TRACE,
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            // What ends Go's process is an error here: we do not end it.
            Self::Error | Self::Dpanic | Self::Panic | Self::Fatal => LevelFilter::ERROR,
        }
    }
}

fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_#-".contains(c);
    name.split('.')
        .all(|part| !part.is_empty() && part.chars().all(legal))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spec and the form that a Go peer gives it (for `payload` Go prints a number).
    #[test]
    fn specs_are_told_as_fabric_tells_them() {
        for (spec, told) in [
            ("", "info"),
            ("debug", "debug"),
            ("WARNING", "warn"),
            ("debug:", "info"),
            ("debug:warn", "warn"),
            ("notice:a=critical", "a=error:info"),
            ("gossip=debug:info", "gossip=debug:info"),
            ("info:gossip=debug", "gossip=debug:info"),
            (
                "gossip.=payload:gossip.comm,msp=FATAL:warn",
                "gossip.=payload:gossip.comm=fatal:msp=fatal:warn",
            ),
            ("a=info:a.b=debug:a=warn", "a.b=debug:a=warn:info"),
        ] {
            let parsed = Spec::parse(spec).unwrap();
            assert_eq!(parsed.to_string(), told, "{spec:?}");
            assert_eq!(Spec::parse(told).unwrap(), parsed, "{spec:?}");
        }
    }

    #[test]
    fn the_longest_logger_that_covers_a_place_counts() {
        let spec = Spec::parse("warn:gossip=debug:gossip.comm=error:msp.=payload:h2=info").unwrap();
        for (target, level) in [
            ("gossip", LevelFilter::DEBUG),
            ("gossip.state", LevelFilter::DEBUG),
            ("gossip.state.deep", LevelFilter::DEBUG),
            ("gossip.comm", LevelFilter::ERROR),
            ("gossip.comm.deep", LevelFilter::ERROR),
            ("gossip.common", LevelFilter::DEBUG),
            ("gossiping", LevelFilter::WARN),
            ("msp", LevelFilter::TRACE),
            ("msp.identity", LevelFilter::WARN),
            ("h2::codec", LevelFilter::INFO),
            ("", LevelFilter::WARN),
        ] {
            assert_eq!(spec.level(target), level, "{target}");
        }
        assert_eq!(spec.most(), LevelFilter::TRACE);
    }

    #[test]
    fn a_bad_spec_is_refused_with_the_reason() {
        let level = |spec: &str, level: &str| {
            let (spec, level) = (spec.to_owned(), level.to_owned());
            SpecRefused::Level { spec, level }
        };
        let refused = |spec| Spec::parse(spec).unwrap_err();
        assert_eq!(refused("gossip=loud"), level("gossip=loud", "loud"));
        assert_eq!(refused("loud"), level("loud", "loud"));
        assert_eq!(refused("a=b=debug"), level("a=b=debug", "b=debug"));
        assert_eq!(refused("a="), level("a=", ""));
        for spec in [
            "=debug",
            "a b=debug",
            "x[y]=debug",
            "a..b=info",
            ".=info",
            "a,=info",
        ] {
            let refused = refused(spec);
            assert!(matches!(refused, SpecRefused::Logger { .. }), "{refused}");
        }
    }
}
