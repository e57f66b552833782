//! `tidings watch`: the node that runs, again and again, in a terminal.
//!
//! Promises: no text of others reaches the terminal as anything but text; no line is longer than
//! the terminal is wide; what the terminal was like before is there again at the end. What goes by
//! in a second is the difference of two views, so the first shows none.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use tidings_node::comm::Traffic;
use tidings_node::view::{Channel, View};
use time::OffsetDateTime;
use tokio::time::{Instant, MissedTickBehavior};

use super::outline::clean;
use super::peers::{PKI_DIGITS, Peer, UNKNOWN, ago, peers};
use super::{print, socket};
use crate::admin::client::ask;
use crate::admin::{Answer, Question};
use crate::complaint::in_one_line;
use crate::demo::terminal::bytes;
use crate::signals::Signals;

/// Events that are shown; the last ones.
const EVENTS_SHOWN_MAX: usize = 5;

/// Rules that are shown of those that were broken; the most frequent.
const RULES_SHOWN_MAX: usize = 6;

/// By how many milliseconds the start of one run may seem to move from view to view: clocks are set
/// a little, and no node is up again sooner.
const START_MOVES_MAX: u64 = 3000;

/// Members tell their heights every few seconds: who has what was the top so many milliseconds ago
/// is not behind.
const TOLD_MS: u64 = 8000;

/// How many blocks below the top nobody is behind yet.
const LAG_MAX: u64 = 10;

/// Watch the running node: channels, members, what goes between them, what is wrong.
///
/// On a terminal the picture is drawn anew each time, until Ctrl-C; elsewhere each view is one
/// line. The node is found by its configuration, or by --socket. It may be stopped and started
/// again meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidings watch
  tidings watch --config net/nodes/peer0.org1.demo --interval 5
  tidings watch --once")]
pub(crate) struct Arguments {
    /// The core.yaml of the node, or its folder [default: as for `tidings node start`].
    #[arg(long, value_name = "FILE_OR_DIR")]
    config: Option<PathBuf>,
    /// The node's socket [default: admin.sock in peer.fileSystemPath].
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Seconds between two views, 0.1 to 3600.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// Print one view and end.
    #[arg(long)]
    once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| (0.1..=3600.0).contains(seconds));
    let interval = seconds.map(Duration::from_secs_f64);
    interval.ok_or_else(|| "give seconds from 0.1 to 3600".to_owned())
}

impl Arguments {
    /// Does it.
    pub(crate) fn run(self) -> Result<()> {
        let socket = socket(self.socket, self.config.as_deref())?;
        if self.once {
            let lines = picture(&look(&socket)?, None, None);
            return print(&format!("{}\n", lines.join("\n")));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let outcome = runtime.block_on(watch(&socket, self.interval));
        // A question that is not answered must not keep the program from ending.
        runtime.shutdown_background();
        outcome
    }
}

fn look(socket: &Path) -> Result<View> {
    match ask(socket, &Question::State {})? {
        Answer::State(view) => Ok(*view),
        answer => bail!("the node answered something else: {answer:?}"),
    }
}

async fn watch(socket: &Path, interval: Duration) -> Result<()> {
    let mut signals = Signals::listen()?;
    // A node that is not there at all is an error, one that goes away may come back.
    let mut now = look(socket)?;
    let mut before: Option<View> = None;
    // Of a moment ago that is long enough, and of one that will be.
    let (mut old, mut mark) = (None, now.clone());
    let screen = Screen::open();
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost: Option<String> = None;
    loop {
        if !screen.show(&now, before.as_ref(), old.as_ref(), lost.take())? {
            return Ok(());
        }
        tokio::select! {
            _ = signals.next() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let place = socket.to_owned();
        let seen = tokio::task::spawn_blocking(move || look(&place));
        let seen = tokio::select! {
            _ = signals.next() => return Ok(()),
            seen = seen => seen.context("asking broke off")?,
        };
        match seen {
            Ok(view) => {
                if !same_run(&mark, &view) || view.up_ms - mark.up_ms >= TOLD_MS {
                    old = Some(std::mem::replace(&mut mark, view.clone()));
                }
                before = Some(std::mem::replace(&mut now, view));
            }
            Err(error) => lost = Some(in_one_line(&error)),
        }
    }
}

/// Where it is shown.
struct Screen {
    is_terminal: bool,
}

impl Screen {
    /// On a terminal: the other screen, without a cursor, and lines that do not go on below.
    fn open() -> Self {
        let is_terminal = io::stdout().is_terminal();
        if is_terminal {
            let _ = io::stdout().write_all(b"\x1b[?1049h\x1b[?25l\x1b[?7l");
        }
        Self { is_terminal }
    }

    /// False when nobody reads any more.
    fn show(
        &self,
        now: &View,
        before: Option<&View>,
        old: Option<&View>,
        lost: Option<String>,
    ) -> Result<bool> {
        let lost = lost.map(|why| format!("not reached: {why}"));
        let text = if self.is_terminal {
            let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
            let (columns, rows) = size.map_or((80, 24), |size| (size.ws_col, size.ws_row));
            let mut lines = picture(now, before, old);
            lines.splice(0..0, lost);
            let lines = fitting(lines, columns.into(), rows.into());
            format!("\x1b[H\x1b[J{}", lines.join("\n"))
        } else {
            format!("{}\n", lost.unwrap_or_else(|| line(now, before)))
        };
        let mut out = io::stdout();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            written => written
                .map(|()| true)
                .context("cannot write to standard output"),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_terminal {
            let _ = io::stdout().write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l");
            let _ = io::stdout().flush();
        }
    }
}

/// So much of it as there is room for; a terminal that tells no size has that of old.
fn fitting(mut lines: Vec<String>, columns: usize, rows: usize) -> Vec<String> {
    let (columns, rows) = (columns.max(1), rows.max(2));
    if lines.len() > rows {
        let more = lines.len() - (rows - 1);
        lines.truncate(rows - 1);
        lines.push(format!("… and {more} more lines"));
    }
    let cut = |line: String| match line.char_indices().nth(columns) {
        Some((end, _)) => line.get(..end).unwrap_or_default().to_owned(),
        None => line,
    };
    lines.into_iter().map(cut).collect()
}

/// Whether both are of one run of the node, in this order: one that was started anew has counted
/// from nothing.
fn same_run(before: &View, now: &View) -> bool {
    let started = |view: &View| view.seen_at_ms.saturating_sub(view.up_ms);
    let moved = started(before).abs_diff(started(now));
    before.peer == now.peer && before.up_ms < now.up_ms && moved < START_MOVES_MAX
}

/// What goes by in a second, and who does not keep up with it.
struct Rates<'a> {
    seconds: f64,
    members: BTreeMap<&'a str, Option<Traffic>>,
    before: Option<&'a View>,
    /// Of each channel the top of now and that of [`TOLD_MS`] ago, once that is known.
    tops: Option<BTreeMap<&'a str, [u64; 2]>>,
}

impl<'a> Rates<'a> {
    fn new(now: &View, before: Option<&'a View>, old: Option<&'a View>) -> Self {
        let before = before.filter(|view| same_run(view, now));
        let old = old.filter(|old| same_run(old, now) && now.up_ms - old.up_ms >= TOLD_MS);
        let members = before.iter().flat_map(|view| &view.members);
        let passed = before.map_or(0, |view| now.up_ms - view.up_ms);
        Self {
            seconds: passed as f64 / 1000.0,
            members: members
                .map(|member| (member.peer.as_str(), member.traffic))
                .collect(),
            before,
            tops: old.map(|old| tops(now, old)),
        }
    }

    /// Bytes from a member and to it.
    fn of(&self, peer: &str, now: Option<Traffic>) -> Option<[u64; 2]> {
        let (now, last) = (now?, self.members.get(peer).copied().flatten()?);
        if now.connection != last.connection || self.seconds <= 0.0 {
            return None;
        }
        let rate = |now: u64, last: u64| (now.saturating_sub(last) as f64 / self.seconds) as u64;
        Some([
            rate(now.received.bytes, last.received.bytes),
            rate(now.sent.bytes, last.sent.bytes),
        ])
    }

    /// Blocks of a channel.
    fn blocks(&self, channel: &Channel) -> Option<f64> {
        let before = self.before?.channels.iter();
        let last = before.clone().find(|old| old.channel == channel.channel)?;
        Some(channel.height.saturating_sub(last.height) as f64 / self.seconds)
    }

    /// How many blocks a member is behind, if it is.
    fn late(&self, peer: &Peer, channel: &Channel) -> Option<u64> {
        let [top, old] = self.tops.as_ref()?.get(channel.channel.as_str())?;
        let height = peer.heights.get(&channel.channel)?;
        let behind = top.saturating_sub(*height);
        (behind > LAG_MAX && height < old).then_some(behind)
    }

    /// Bytes of all members.
    fn total(&self, now: &View) -> [u64; 2] {
        let rates = now.members.iter();
        let rates = rates.filter_map(|member| self.of(&member.peer, member.traffic));
        rates.fold([0, 0], |[came, went], [in_, out]| [came + in_, went + out])
    }
}

fn tops<'a>(now: &View, old: &'a View) -> BTreeMap<&'a str, [u64; 2]> {
    let both = old.channels.iter().filter_map(|old| {
        let mut channels = now.channels.iter();
        let now = channels.find(|now| now.channel == old.channel)?;
        Some((old.channel.as_str(), [top(now), top(old)]))
    });
    both.collect()
}

/// The height that a channel surely has: one of the others may claim anything, so it takes two, or
/// ourselves.
fn top(channel: &Channel) -> u64 {
    let mut claims: Vec<_> = channel.heights.values().copied().collect();
    claims.sort_unstable_by_key(|height| std::cmp::Reverse(*height));
    let claim = claims.get(1).or_else(|| claims.first()).copied();
    channel.height.max(claim.unwrap_or_default())
}

fn clock(ms: u64) -> String {
    let at = i64::try_from(ms / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.map_or_else(String::new, |at| {
        format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
    })
}

fn duration(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn behind(channel: &Channel) -> u64 {
    let highest = channel.heights.values().max().copied().unwrap_or_default();
    highest.saturating_sub(channel.height)
}

fn name(view: &View, peer: &str) -> String {
    if peer == view.peer {
        return "this node".to_owned();
    }
    let mut members = view.members.iter();
    let found = members.find(|member| member.peer == peer && !member.endpoint.is_empty());
    found.map_or_else(
        || peer.chars().take(PKI_DIGITS).collect(),
        |member| clean(&member.endpoint),
    )
}

/// Everything in one line.
fn line(now: &View, before: Option<&View>) -> String {
    let rates = Rates::new(now, before, None);
    let channels = now.channels.iter().map(|channel| {
        let leads = if channel.leads { " leads" } else { "" };
        let (name, height) = (clean(&channel.channel), channel.height);
        format!("{name} {height} lag {}{leads}", behind(channel))
    });
    let channels: Vec<_> = channels.collect();
    let [came, went] = rates.total(now).map(bytes);
    let refused: u64 = now.refused.values().sum();
    let failed = now.failed.iter().map(|check| check.component.as_str());
    let failed: Vec<_> = failed.map(clean).collect();
    let health = if failed.is_empty() {
        "well".to_owned()
    } else {
        format!("not well: {}", failed.join(" "))
    };
    format!(
        "{}  {}  members {}  received {came}/s  sent {went}/s  refused {refused}  {health}",
        clock(now.seen_at_ms),
        channels.join(", "),
        now.members.len() + now.members_left_out,
    )
}

/// Everything, what matters most first: what finds no room is at the end.
fn picture(now: &View, before: Option<&View>, old: Option<&View>) -> Vec<String> {
    let rates = Rates::new(now, before, old);
    let mut lines = vec![format!(
        "{} UTC  {} of {}  up {}",
        clock(now.seen_at_ms),
        clean(&now.endpoint),
        clean(&now.organization),
        duration(now.up_ms)
    )];
    let failed = now.failed.iter();
    lines.extend(failed.map(|check| {
        let (component, reason) = (clean(&check.component), clean(&check.reason));
        format!("not well  {component}: {reason}")
    }));
    for channel in &now.channels {
        lines.extend(channel_lines(now, channel, &rates));
    }
    let mut refused: Vec<_> = now.refused.iter().collect();
    refused.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let refused = refused.iter().take(RULES_SHOWN_MAX);
    let refused: Vec<_> = refused
        .map(|(rule, count)| format!("{rule} {count}"))
        .collect();
    if !refused.is_empty() {
        lines.push(format!("refused   {}", refused.join(", ")));
    }
    for event in now.history.iter().rev().take(EVENTS_SHOWN_MAX) {
        let about = event.peer.as_ref().map(|peer| name(now, peer) + " ");
        let times = Some(event.times).filter(|times| *times > 1);
        lines.push(format!(
            "{}  {}{}{}",
            clock(event.at_ms),
            about.unwrap_or_default(),
            clean(&event.text),
            times.map_or_else(String::new, |times| format!(" ({times} times)")),
        ));
    }
    lines.extend(member_lines(now, &rates));
    lines
}

fn channel_lines(view: &View, channel: &Channel, rates: &Rates<'_>) -> Vec<String> {
    let rate = rates.blocks(channel);
    let leader = match &channel.elected {
        _ if channel.leads => "this node leads".to_owned(),
        Some(peer) => format!("{} leads", name(view, peer)),
        None => "another leads, or nobody known".to_owned(),
    };
    let orderers: Vec<_> = channel.orderers.iter().map(|each| clean(each)).collect();
    let from = if orderers.is_empty() {
        String::new()
    } else {
        format!(", from {}", orderers.join(" "))
    };
    let mut lines = vec![format!(
        "{}  height {}{}  lag {}  {leader}{from}",
        clean(&channel.channel),
        channel.height,
        rate.map_or_else(String::new, |rate| format!("  {rate:.1}/s")),
        behind(channel),
    )];
    let counted = |counts: &BTreeMap<String, u64>| {
        let counts = counts.iter().filter(|(_, count)| **count > 0);
        let counts: Vec<_> = counts.map(|(what, n)| format!("{what} {n}")).collect();
        counts.join(", ")
    };
    for (what, counts) in [("blocks", &channel.blocks), ("private", &channel.private)] {
        let counts = counted(counts);
        if !counts.is_empty() {
            lines.push(format!("  {what}  {counts}"));
        }
    }
    if let Some(missing) = channel.missing {
        let givers = channel.givers.len();
        lines.push(format!("  {missing} blocks are asked of {givers} members"));
    }
    lines
}

fn member_lines(view: &View, rates: &Rates<'_>) -> Vec<String> {
    let traffic = view.members.iter();
    let traffic: BTreeMap<_, _> = traffic
        .map(|member| (member.peer.as_str(), member.traffic))
        .collect();
    let all = peers(view);
    let late = |peer: &&Peer| {
        let mut channels = view.channels.iter();
        channels.any(|channel| rates.late(peer, channel).is_some())
    };
    let mut count = format!("{} members", all.len() + view.members_left_out);
    if rates.tops.is_some() {
        count += &format!(", {} behind", all.iter().filter(late).count());
    }
    let mut lines = vec![columns(&count, "height", "heard", ["received/s", "sent/s"])];
    let mut organization = None;
    for peer in &all {
        let of = peer.organization.as_deref().unwrap_or(UNKNOWN);
        if organization != Some(of) {
            lines.push(clean(of));
            organization = Some(of);
        }
        let now = traffic.get(peer.peer.as_str()).copied().flatten();
        lines.push(member_line(view, peer, now, rates));
    }
    if view.members_left_out > 0 {
        lines.push(format!("and {} more members", view.members_left_out));
    }
    lines
}

fn member_line(view: &View, peer: &Peer, now: Option<Traffic>, rates: &Rates<'_>) -> String {
    let heights = view.channels.iter();
    let heights: Vec<_> = heights
        .map(|channel| {
            let height = peer.heights.get(&channel.channel);
            let height = height.map_or_else(|| "-".to_owned(), u64::to_string);
            let late = rates.late(peer, channel);
            late.map_or_else(|| height.clone(), |blocks| format!("{height} (-{blocks})"))
        })
        .collect();
    let heard = match peer.heard_ms {
        _ if peer.this_node => String::new(),
        None => "-".to_owned(),
        Some(ms) => ago(ms),
    };
    let both = |why: &str| [why, why].map(str::to_owned);
    let flow = match (now, rates.of(&peer.peer, now)) {
        _ if peer.this_node && rates.before.is_some() => rates.total(view).map(bytes),
        _ if peer.this_node => both(""),
        (None, _) if !view.traffic_known => both("not known"),
        (None, _) => both("no link"),
        (Some(_), None) => both("…"),
        (Some(_), Some(flow)) => flow.map(bytes),
    };
    let name = format!("  {}", name(view, &peer.peer));
    columns(
        &name,
        &heights.join(" "),
        &heard,
        flow.each_ref().map(|text| text.as_str()),
    )
}

/// Of a table that finds room in a terminal of old.
fn columns(name: &str, height: &str, heard: &str, [came, went]: [&str; 2]) -> String {
    let line = format!("{name:29}  {height:>12}  {heard:>9}  {came:>10}  {went:>9}");
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests;
