//! Waiting for what another process does, and telling how long it took.
//!
//! Nothing here is slept for: whatever is waited for is looked at again and again, and its absence
//! at a deadline is the failure. Other test targets take this in by its path.

#![allow(dead_code, reason = "each test target uses a part of it")]

use std::{
    env,
    fmt::Display,
    io::{Write as _, stderr},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks until there is something. Fails, saying what was waited for, when that takes too long.
#[track_caller]
pub(crate) fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        let now = Instant::now();
        assert!(now < deadline, "not within {within:?}: {what}");
        thread::sleep(PAUSE);
    }
}

/// Looks as long as the time lasts, at what must hold throughout.
pub(crate) fn throughout(time: Duration, mut look: impl FnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        look();
        thread::sleep(PAUSE);
    }
}

/// Waits until one and the same is the only leader for a while. Gives it, and for how long there
/// were several before.
#[track_caller]
pub(crate) fn settle(
    steady: Duration,
    within: Duration,
    leaders: impl Fn() -> Vec<String>,
) -> (String, Duration) {
    let mut several = Duration::ZERO;
    let mut since = Instant::now();
    let mut looked = since;
    let mut last = Vec::new();
    let leader = until("one leader that stays", within + steady, || {
        let (now, leaders) = (Instant::now(), leaders());
        if last.len() > 1 {
            several += now - looked;
        }
        looked = now;
        if leaders != last {
            (since, last) = (now, leaders);
        }
        match last.as_slice() {
            [one] if now >= since + steady => Some(one.clone()),
            _ => None,
        }
    });
    (leader, several)
}

/// Says something past the test harness, which keeps what passing tests print.
pub(crate) fn say(text: impl Display) {
    // Nobody may be listening, which is no failure.
    let _ = writeln!(stderr(), "{text}");
}

/// Says a figure that can be quoted.
pub(crate) fn measured(scenario: &str, text: impl Display) {
    say(format_args!("MEASURED {scenario}: {text}"));
}

/// The seconds of a time of day as logs write it, `16:45:12.578`.
pub(crate) fn clock(text: &str) -> Option<f64> {
    let parts = text.split(':').map(str::parse);
    let [hours, minutes, seconds]: [f64; 3] =
        parts.collect::<Result<Vec<_>, _>>().ok()?.try_into().ok()?;
    Some((hours * 60.0 + minutes) * 60.0 + seconds)
}

/// A number from the environment, or the one for a short run.
#[track_caller]
pub(crate) fn setting<N: FromStr>(variable: &str, short: N) -> N {
    match env::var(variable) {
        Ok(text) => match text.parse() {
            Ok(number) => number,
            Err(_) => panic!("{variable}={text} is no number"),
        },
        Err(_) => short,
    }
}
