//! What is wrong with a node, or with the configuration of one that does not run.
//!
//! Collects first (files, the node that runs, whoever answers at the endpoints that are named),
//! then judges; each family of checks has a file, and what judges there does no IO. Promises: nothing
//! is changed here or elsewhere; every fault names what to change.

mod ask;
mod channels;
mod clock;
mod config;
mod data;
mod dates;
mod doors;
mod finding;
mod identity;
mod leaders;
mod orderers;
mod peers;
mod ports;
mod reach;
mod report;
mod running;
#[cfg(test)]
mod tests;
mod tls;
mod validity;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use tidings_gossip::id::PkiId;
use tidings_node::core_config::{CoreConfig, Settings};
use tidings_node::tls::Tls;

use self::channels::Channel;
use self::finding::{Finding, Severity};
use self::identity::Local;
use self::orderers::{Asked, Asking};
use self::peers::Peers;
use self::reach::{Dialler, Met};
use self::report::Report;
use crate::admin::client::ask;
use crate::admin::{Answer, Question, SOCKET};
use crate::complaint::in_one_line;
use tidings_node::view::View;

/// What is to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Subject {
    /// A core.yaml or its folder.
    pub(crate) config: Option<PathBuf>,
    /// Genesis blocks of channels.
    pub(crate) genesis: Vec<PathBuf>,
    /// The socket of the node.
    pub(crate) socket: Option<PathBuf>,
}

/// What could be read here.
struct Scene {
    settings: Settings,
    local: Result<Local, String>,
    /// The node that runs, and its socket.
    node: Option<View>,
    /// One may run that could not be asked.
    unasked: bool,
    socket: PathBuf,
    channels: Vec<Channel>,
    /// Ledgers of channels that were left.
    left: Vec<PathBuf>,
    /// Not every ledger here could be read.
    unread: bool,
    now: SystemTime,
}

/// What was heard from elsewhere.
struct Heard {
    met: BTreeMap<String, Met>,
    /// None if there was nothing to ask with.
    asked: Option<Vec<Asked>>,
    /// Heights of our ledgers after all that.
    later: BTreeMap<String, u64>,
}

/// Looks at everything.
pub(crate) fn examine(subject: &Subject) -> Result<Report> {
    let config = match CoreConfig::load(subject.config.as_deref()) {
        Ok(config) => config,
        Err(refused) => {
            return Ok(Report::of(
                config::subject(subject.config.as_deref()),
                vec![config::refused(&refused)],
            ));
        }
    };
    let path = config.path().display().to_string();
    let settings = match Settings::read(&config) {
        Ok(settings) => settings,
        Err(refused) => {
            let finding = config::refused(&refused).at(path);
            return Ok(Report::of(
                config::subject(Some(config.path())),
                vec![finding],
            ));
        }
    };
    let mut findings = vec![config::unknown(&path, &config.unknown())];
    findings.extend(config::not_followed(&path, &config.warnings()));
    let mut scene = Scene::read(settings, subject, &mut findings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let heard = runtime.block_on(scene.listen());
    // Who does not answer must not keep the program from ending.
    runtime.shutdown_background();
    scene.compare(&heard);
    findings.extend(scene.judge(&heard));
    Ok(Report::of(scene.told(&path), findings))
}

impl Scene {
    fn read(settings: Settings, subject: &Subject, findings: &mut Vec<Finding>) -> Self {
        let socket = subject.socket.clone();
        let socket = socket.unwrap_or_else(|| settings.data_dir.join(SOCKET));
        let mut unasked = false;
        let node = match state(&socket, subject.socket.is_some()) {
            Ok(node) => node,
            Err(finding) => {
                findings.push(*finding);
                unasked = true;
                None
            }
        };
        findings.push(data::look(&settings.data_dir));
        let (channels, found) = channels::look(
            node.as_ref().map(|_| &*socket),
            &settings.data_dir,
            &subject.genesis,
        );
        unasked |= found.iter().any(channels::is_in_use);
        let unread = unasked || found.iter().any(channels::is_unread);
        findings.extend(found);
        Self {
            local: identify(&settings, node.as_ref()),
            left: channels::left(&settings.data_dir),
            settings,
            node,
            unasked,
            unread,
            socket,
            channels,
            now: SystemTime::now(),
        }
    }

    /// Our organization: the node that runs knows it best.
    fn msp_id(&self) -> &str {
        let node = self.node.as_ref();
        node.map_or(&self.settings.msp_id, |node| &node.organization)
    }

    /// Notes which configurations may be old.
    fn compare(&mut self, heard: &Heard) {
        for channel in &mut self.channels {
            let name = &channel.name;
            let asked = heard.asked.iter().flatten();
            let of_channel = asked.filter(|asked| asked.channel == *name);
            let said: Vec<_> = of_channel
                .filter_map(|each| each.outcome.as_ref().ok())
                .collect();
            let seen = self.node.iter().flat_map(|node| &node.channels);
            let claimed = seen
                .filter(|seen| seen.channel == *name)
                .flat_map(|seen| seen.heights.values().copied())
                .max();
            channel.compare(&said, claimed.unwrap_or_default());
        }
    }

    /// TLS to dial with, trusting what the channels trust; an error if it is no good.
    fn tls(&self) -> Result<Option<Tls>, ()> {
        let Some(settings) = &self.settings.tls else {
            return Ok(None);
        };
        let roots = self.channels.iter();
        let roots = roots.flat_map(|channel| channel.config.application_tls_roots());
        // What is wrong with it is told in its place.
        let tls = Tls::new(settings, self.now).and_then(|tls| {
            tls.replace_channel_roots(|| roots.collect::<Vec<_>>())?;
            Ok(tls)
        });
        tls.map(Some).map_err(drop)
    }

    fn peers<'a>(&'a self, met: &'a BTreeMap<String, Met>) -> Peers<'a> {
        let node = self.node.as_ref();
        // Of a port that the system chose only the node knows the number.
        let own = node.map(|node| (&*node.endpoint, &*node.external_endpoint));
        let settings = &self.settings;
        let (endpoint, external) = own.unwrap_or((&settings.endpoint, &settings.external_endpoint));
        let signer = self.local.as_ref().ok().map(|local| &local.signer);
        let running = node.and_then(|node| PkiId::from_wire(&hex::decode(&node.peer).ok()?));
        Peers {
            msp_id: self.msp_id(),
            me: running.or_else(|| signer.map(|signer| PkiId::new(*signer.pki_id()))),
            endpoint,
            external,
            bootstrap: &self.settings.gossip.bootstrap,
            channels: &self.channels,
            runs: node.is_some(),
            members: node.map_or(&[][..], |node| &node.members[..]),
            met,
        }
    }

    /// Dials and asks whoever is named.
    async fn listen(&self) -> Heard {
        let tls = self.tls();
        let local = self.local.as_ref().ok();
        let dialler = Dialler {
            local,
            tls: tls.clone(),
            transport: self.settings.transport.clone(),
            channels: &self.channels,
        };
        let nobody = BTreeMap::new();
        let endpoints = self.peers(&nobody).endpoints();
        let asking = local.zip(tls.ok()).map(|(local, tls)| Asking {
            local,
            identity: tls.as_ref().map(Tls::client_identity),
            shows: self
                .settings
                .tls
                .as_ref()
                .is_some_and(|tls| tls.client_auth_required),
            delivery: &self.settings.delivery,
            clock: SystemTime::now,
        });
        let ask = async {
            match &asking {
                Some(asking) => Some(Box::pin(asking.all(&self.channels)).await),
                None => None,
            }
        };
        let (met, asked) = tokio::join!(Box::pin(dialler.meet(&endpoints)), ask);
        Heard {
            met,
            asked,
            later: self.heights(),
        }
    }

    /// Heights of the node's ledgers now.
    fn heights(&self) -> BTreeMap<String, u64> {
        let node = self.node.as_ref();
        let state = node.and_then(|_| ask(&self.socket, &Question::State {}).ok());
        match state {
            Some(Answer::State(state)) => state
                .channels
                .into_iter()
                .map(|channel| (channel.channel, channel.height))
                .collect(),
            _ => BTreeMap::new(),
        }
    }

    fn judge(&self, heard: &Heard) -> Vec<Finding> {
        let seconds = seconds(self.now);
        let (mut findings, doubt) = self.identity(seconds);
        let doubted = |of: Vec<Finding>| -> Vec<Finding> {
            let each = |finding: Finding| match doubt {
                Some(doubt) => finding.unsettled(doubt),
                None => finding,
            };
            of.into_iter().map(each).collect()
        };
        let peers = self.peers(&heard.met);
        let names = tls::Names {
            endpoint: peers.endpoint,
            external: peers.external,
        };
        let tls = self.settings.tls.as_ref();
        // Whose roots of the channels are meant is not known otherwise.
        let channels = if doubt.is_none() {
            &*self.channels
        } else {
            &[]
        };
        findings.extend(tls::judge(tls, self.msp_id(), channels, &names, self.now));
        findings.extend(self.ports());
        let joined = self.unread || self.channels.iter().any(|channel| channel.held.is_some());
        findings.extend(doors::judge(&self.settings, joined, self.now));
        findings.extend(channels::judge(&self.channels));
        findings.extend(self.left.iter().map(|dir| channels::was_left(dir)));
        findings.extend(doubted(peers.judge()));
        findings.extend(doubted(self.orderers(heard.asked.as_deref(), seconds)));
        findings.extend(doubted(self.work(heard)));
        findings.extend(self.node.iter().flat_map(running::judge));
        let wanted = self.settings.validity_organizations;
        findings.extend(validity::judge(wanted, &self.channels, self.node.as_ref()));
        findings
    }

    /// Who we are, and if that is not clear why what follows from it may be wrong.
    fn identity(&self, seconds: i64) -> (Vec<Finding>, Option<&'static str>) {
        let settings = &self.settings;
        let here = (&*settings.msp_dir, &*settings.msp_id);
        let mut findings = Vec::new();
        if let (Ok(local), Some(node)) = (&self.local, &self.node) {
            findings.extend(identity::compared(local, here, node));
            if !local.is(node) {
                let doubt = "it may follow from asking by the identity named here, which is not that of the node: mend what is found of identity first";
                // A user of our organization sees what the node sees.
                let is_ours = settings.msp_id == node.organization;
                if is_ours {
                    findings.extend(self.next_identity(local, seconds));
                }
                return (findings, Some(doubt).filter(|_| !is_ours));
            }
        }
        let here = (here.0, self.msp_id());
        findings.extend(identity::judge(&self.local, here, seconds));
        let Ok(local) = &self.local else {
            return (findings, None);
        };
        findings.extend(identity::role(local, here.0, &self.channels));
        let members = identity::membership(local, &self.channels);
        let is_wrong = members.iter().any(|each| each.severity == Severity::Fault);
        findings.extend(members);
        let doubt =
            "it may follow from what is found of organization: mend that first, and ask again";
        (findings, Some(doubt).filter(|_| is_wrong))
    }

    /// What is named here may have been renewed for a node that still runs with the former, or be
    /// that of a user whose shell it is: no fault of the node.
    fn next_identity(&self, local: &Local, seconds: i64) -> Vec<Finding> {
        let here = (&*self.settings.msp_dir, &*self.settings.msp_id);
        let mut findings = identity::judge(&self.local, here, seconds);
        findings.extend(identity::role(local, here.0, &self.channels));
        findings.extend(identity::membership(local, &self.channels));
        for finding in &mut findings {
            finding.found = format!("at the next start: {}", finding.found);
            finding.severity = finding.severity.min(Severity::Warning);
        }
        findings
    }

    fn ports(&self) -> Vec<Finding> {
        let node = self.node.as_ref();
        let listen = (&*self.settings.listen.0, self.settings.listen.1);
        let gossip = ports::look(listen);
        let listens = node.map(|node| Some(&*node.address));
        let mut findings = vec![ports::judge("peer.listenAddress", listen, &gossip, listens)];
        let operations = self.settings.operations.as_ref();
        let http = self.settings.http.as_ref();
        let servers = [
            ("operations.listenAddress", operations.map(|of| &of.listen)),
            ("http.listenAddress", http.map(|of| &of.listen)),
        ];
        let mut taken = vec![("peer.listenAddress", listen)];
        for (key, listen) in servers {
            let Some((host, port)) = listen else { continue };
            let listen = (&**host, *port);
            findings.extend(ports::twice(key, listen, &taken));
            taken.push((key, listen));
            let port = ports::look(listen);
            findings.push(ports::judge(key, listen, &port, node.map(|_| None)));
        }
        let doubt =
            "it may be the node, which was not asked: mend what is found of node and ledger first";
        let each = |finding: Finding| match self.unasked {
            true => finding.unsettled(doubt),
            false => finding,
        };
        findings.into_iter().map(each).collect()
    }

    fn orderers(&self, asked: Option<&[Asked]>, now: i64) -> Vec<Finding> {
        let Some(asked) = asked else {
            return vec![
                Finding::warning(
                    "orderer",
                    "not asked: without a good identity and good TLS there is nothing to ask with",
                )
                .because("the faults above come first"),
            ];
        };
        let mut findings = orderers::judge(asked, &self.channels);
        findings.extend(orderers::unused(&self.settings.delivery, &self.channels));
        if self.channels.is_empty() {
            findings.push(self.no_channel());
        } else {
            findings.extend(clock::judge(asked, &self.channels, now));
        }
        findings
    }

    fn no_channel(&self) -> Finding {
        const CHECK: &str = "channel";
        const UNSEEN: &str = "orderers, anchor peers and the clock were not looked at";
        if self.unread {
            return Finding::warning(CHECK, format!("no channel is known here: {UNSEEN}"))
                .because("what is found of node and ledger comes first");
        }
        let none = Finding::warning(CHECK, format!("no channel is joined here: {UNSEEN}"))
            .because("a node without a channel does nothing");
        match self.left.is_empty() {
            true => none.change("--join of `tidings node start`", "join a channel; or give its genesis block here with --genesis"),
            false => none.change("`tidings channel join`", "join a channel, or the one that was left again: `tidings node start` leaves it alone whatever --join says"),
        }
    }

    /// Whether blocks come.
    fn work(&self, heard: &Heard) -> Vec<Finding> {
        let gossip = &self.settings.gossip;
        let Some(node) = &self.node else {
            return vec![leaders::configured(gossip)];
        };
        let mut served = BTreeMap::new();
        for asked in heard.asked.iter().flatten() {
            if let Ok(said) = &asked.outcome {
                let height: &mut u64 = served.entry(asked.channel.clone()).or_default();
                *height = said.height.max(*height);
            }
        }
        leaders::judge(node, gossip, &heard.later, &served)
    }

    fn told(&self, path: &str) -> String {
        let socket = self.socket.display();
        let node = match &self.node {
            Some(node) => {
                let peer: String = node.peer.chars().take(8).collect();
                format!("the node {peer} runs, and answers at {socket}")
            }
            None => format!("no node answers at {socket}"),
        };
        format!("{path}, {}; {node}", self.msp_id())
    }
}

/// How the node that runs is; none if none does.
fn state(socket: &Path, is_named: bool) -> Result<Option<View>, Box<Finding>> {
    const CHECK: &str = "node";
    let found = |error: &anyhow::Error| {
        Finding::warning(CHECK, in_one_line(error))
            .at(socket.display().to_string())
            .because("only the configuration is looked at")
            .change(
                "--socket",
                "name the socket of the node, as the user that runs it",
            )
    };
    if let Err(error) = UnixStream::connect(socket) {
        let is_absent = [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind());
        if is_absent && !is_named {
            return Ok(None);
        }
    }
    match ask(socket, &Question::State {}) {
        Ok(Answer::State(state)) => Ok(Some(*state)),
        Ok(answer) => {
            let error = anyhow::anyhow!("the node answered something else: {answer:?}");
            Err(Box::new(found(&error)))
        }
        Err(error) => Err(Box::new(found(&error))),
    }
}

/// The identity that is named here, under the name that the node that runs has for its organization
/// if that makes it the node's.
fn identify(settings: &Settings, node: Option<&View>) -> Result<Local, String> {
    if let Some(node) = node
        && let Ok(local) = Local::load(&settings.msp_dir, &node.organization)
        && local.is(node)
    {
        return Ok(local);
    }
    Local::load(&settings.msp_dir, &settings.msp_id)
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
