//! How far the clock of this machine is from those of others.
//!
//! Nothing in Fabric tells the time. But an orderer refuses a request whose time is too far from
//! its own, before it looks at anything else: so requests that ask for nothing are sent as if it
//! were earlier or later, and in the middle of the times that it takes lies its own. An orderer
//! whose clock is like ours is asked four times.

use tidings_proto::common::Status;

use super::ask::{Answer, Asker};
use super::channels::Channel;
use super::dates::span;
use super::finding::Finding;
use super::orderers::{Asked, Trouble};

const CHECK: &str = "clock";

const SETTING: &str = "the clock of this machine";

/// No channel has this name, since capitals are not allowed: whoever takes the time of the request
/// goes on to say that it does not know the channel.
const NO_CHANNEL: &str = "NONE";

/// Fabric's usual `Authentication.TimeWindow`.
const WINDOW_S: i64 = 15 * 60;

/// Clocks that differ by less are taken for the same.
const CLOSE_S: i64 = 60;

/// From here on it is a fault: some more, and orderers refuse us.
const FAR_S: i64 = 5 * 60;

/// A difference that is looked for.
const REACH_S: i64 = 6 * 3600;

/// The widest window that is measured.
const WINDOW_S_MAX: i64 = 24 * 3600;

/// A clock, compared with ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offset {
    /// Like ours, to a minute.
    Close,
    /// So many seconds ahead of ours.
    Seconds(i64),
}

/// Compares with an orderer's clock.
pub(super) async fn of(asker: &Asker) -> Result<Offset, String> {
    measure(
        async |later| match asker.ask(NO_CHANNEL, None, later).await? {
            Answer::Status(Status::BadRequest) => Ok(false),
            _ => Ok(true),
        },
    )
    .await
}

/// Finds out which times are taken, in seconds from now, and what lies in their middle.
async fn measure(
    mut takes: impl AsyncFnMut(i64) -> Result<bool, String>,
) -> Result<Offset, String> {
    if takes(CLOSE_S - WINDOW_S).await?
        && takes(WINDOW_S - CLOSE_S).await?
        && !takes(WINDOW_S + CLOSE_S).await?
        && !takes(-WINDOW_S - CLOSE_S).await?
    {
        return Ok(Offset::Close);
    }
    let mut taken = None;
    // No window is so narrow that one falls between.
    for step in 0..=REACH_S / WINDOW_S {
        for later in [step * WINDOW_S, -step * WINDOW_S] {
            if taken.is_none() && takes(later).await? {
                taken = Some(later);
            }
        }
    }
    let Some(taken) = taken else {
        return Err("no time is taken, none of six hours before or after ours".to_owned());
    };
    let earliest = edge(&mut takes, taken, taken - WINDOW_S_MAX).await?;
    let latest = edge(&mut takes, taken, taken + WINDOW_S_MAX).await?;
    Ok(Offset::Seconds(i64::midpoint(earliest, latest)))
}

/// The last time that is taken on the way to one that is not.
async fn edge(
    takes: &mut impl AsyncFnMut(i64) -> Result<bool, String>,
    mut taken: i64,
    mut refused: i64,
) -> Result<i64, String> {
    if takes(refused).await? {
        return Err("any time is taken".to_owned());
    }
    while taken.abs_diff(refused) > 1 {
        let middle = i64::midpoint(taken, refused);
        if takes(middle).await? {
            taken = middle;
        } else {
            refused = middle;
        }
    }
    Ok(taken)
}

/// What the clocks of orderers, and blocks that are here, say of ours.
pub(super) fn judge(asked: &[Asked], channels: &[Channel], now: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut compared = Vec::new();
    for each in asked {
        let clock = match &each.outcome {
            Ok(said) => &said.clock,
            Err(Trouble::Status(_, clock)) => clock,
            Err(_) => continue,
        };
        if compared.contains(&&each.endpoint) {
            continue;
        }
        if let Ok(offset) = clock {
            compared.push(&each.endpoint);
            findings.push(compare(&each.endpoint, *offset));
        }
    }
    let newest = channels.iter().filter_map(|channel| {
        let held = channel.held.as_ref()?;
        Some((channel, held.newest_at? - now))
    });
    let ahead = newest.max_by_key(|(_, ahead)| *ahead);
    if let Some((channel, ahead)) = ahead.filter(|(_, ahead)| *ahead > CLOSE_S) {
        findings.push(
            off(
                ahead,
                format!(
                    "the newest block of channel {} was made {} from now, by the clock of a client",
                    channel.name,
                    span(ahead)
                ),
            )
            .at(channel.name.clone()),
        );
    }
    if findings.is_empty() {
        let found = "not compared: no orderer could be asked what time it takes for now";
        findings.push(
            Finding::warning(CHECK, found)
                .because("orderers refuse requests that are more than 15 minutes from their time")
                .change(SETTING, "see that it is set by NTP"),
        );
    }
    findings
}

fn compare(endpoint: &str, offset: Offset) -> Finding {
    const HOW: &str = "by the times of requests that it takes";
    match offset {
        Offset::Close => Finding::ok(
            CHECK,
            format!("within a minute of that of {endpoint}, {HOW}"),
        ),
        Offset::Seconds(ahead) if ahead.abs() < CLOSE_S => {
            let found = format!("{} from that of {endpoint} ({HOW})", span(ahead));
            Finding::ok(CHECK, found)
        }
        Offset::Seconds(ahead) => {
            let side = if ahead > 0 { "behind" } else { "ahead of" };
            off(
                ahead,
                format!(
                    "the clock of this machine is {} {side} that of {endpoint} ({HOW})",
                    span(ahead)
                ),
            )
        }
    }
    .at(endpoint)
}

fn off(ahead: i64, found: String) -> Finding {
    let finding = if ahead.abs() >= FAR_S {
        Finding::fault(CHECK, found)
    } else {
        Finding::warning(CHECK, found)
    };
    finding
        .because("orderers refuse requests that are more than 15 minutes from their time, and certificates are judged by the wrong day")
        .change(SETTING, "set it by NTP (chrony, systemd-timesyncd); if several orderers agree with it, that one is wrong")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    /// An orderer whose clock is so far ahead of ours, and how often it was asked.
    async fn measured(ahead: i64, window: i64) -> (Result<Offset, String>, usize) {
        let mut times = 0;
        let offset = measure(async |later: i64| {
            times += 1;
            Ok(later.abs_diff(ahead) <= window.unsigned_abs())
        })
        .await;
        (offset, times)
    }

    #[tokio::test]
    async fn a_clock_is_found_by_the_times_that_are_taken() {
        assert_eq!(measured(0, WINDOW_S).await, (Ok(Offset::Close), 4));
        assert_eq!(measured(-59, WINDOW_S).await.0, Ok(Offset::Close));
        for ahead in [-REACH_S, -600, -61, 61, 600, 601, 5000, REACH_S] {
            for window in [WINDOW_S, 3600] {
                let (offset, times) = measured(ahead, window).await;
                let Ok(Offset::Seconds(seconds)) = offset else {
                    panic!("{ahead} {window}: {offset:?}");
                };
                assert!(seconds.abs_diff(ahead) <= 1, "{ahead} {window}: {seconds}");
                assert!(times < 100, "{times}");
            }
        }
        let (offset, _) = measured(0, 3600).await;
        assert!(matches!(offset, Ok(Offset::Seconds(-1..=1))), "{offset:?}");
        let (offset, times) = measured(2 * REACH_S, WINDOW_S).await;
        assert!(offset.is_err() && times < 100, "{offset:?} {times}");
        let (offset, _) = measured(0, i64::MAX).await;
        assert!(offset.is_err(), "{offset:?}");
    }

    #[test]
    fn ten_minutes_are_a_fault_and_the_side_is_named() {
        let told = |offset| {
            let finding = compare("o:7050", offset);
            (finding.severity, finding.found)
        };
        assert_eq!(told(Offset::Close).0, Severity::Ok);
        assert_eq!(told(Offset::Seconds(3)).0, Severity::Ok);
        assert_eq!(told(Offset::Seconds(61)).0, Severity::Warning);
        let (severity, found) = told(Offset::Seconds(-600));
        assert_eq!(severity, Severity::Fault);
        assert!(
            found.contains("is 10 min 0 s ahead of that of o:7050"),
            "{found}"
        );
        assert!(told(Offset::Seconds(600)).1.contains("10 min 0 s behind"));
    }
}
