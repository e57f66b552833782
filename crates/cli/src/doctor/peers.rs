//! Peers that the configuration and the channels name: anchors, bootstrap, and ourselves.
//!
//! Pure: judges what [`super::reach`] met.

use std::collections::{BTreeMap, BTreeSet};

use tidings_gossip::id::PkiId;
use tidings_msp::channel_config::ApplicationOrganization;

use super::channels::Channel;
use super::finding::Finding;
use super::reach::{Met, Refusal};
use tidings_node::view::Member;

const BOOTSTRAP: &str = "peer.gossip.bootstrap";

const EXTERNAL: &str = "peer.gossip.externalEndpoint";

/// What a node says of itself, and what was met.
pub(super) struct Peers<'a> {
    pub(super) msp_id: &'a str,
    pub(super) me: Option<PkiId>,
    pub(super) endpoint: &'a str,
    pub(super) external: &'a str,
    pub(super) bootstrap: &'a [String],
    pub(super) channels: &'a [Channel],
    /// Whether a node runs here.
    pub(super) runs: bool,
    /// Members that it knows.
    pub(super) members: &'a [Member],
    pub(super) met: &'a BTreeMap<String, Met>,
}

impl Peers<'_> {
    /// Endpoints that are worth dialling.
    pub(super) fn endpoints(&self) -> BTreeSet<String> {
        let anchors = self.channels.iter().flat_map(|channel| {
            let organizations = channel.config.application_organizations().values();
            organizations.flat_map(anchors)
        });
        let members = self.members.iter().map(|member| member.endpoint.clone());
        let named = self.bootstrap.iter().cloned().chain(anchors).chain(members);
        let own = [self.endpoint, self.external].map(str::to_owned);
        let own = own.into_iter().filter(|_| self.runs);
        named
            .filter(|endpoint| self.runs || !self.is_own(endpoint))
            .chain(own)
            .filter(|endpoint| !endpoint.is_empty())
            .collect()
    }

    fn is_own(&self, endpoint: &str) -> bool {
        endpoint == self.endpoint || endpoint == self.external
    }

    /// Everything.
    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings = self.external_endpoint();
        findings.extend(self.own_endpoint());
        for channel in self.channels {
            findings.extend(self.anchors(channel));
        }
        findings.extend(self.bootstrap());
        findings.extend(self.known_members());
        findings
    }

    /// Organizations of any channel that are not ours.
    fn others(&self) -> BTreeSet<&str> {
        let channels = self.channels.iter();
        let organizations =
            channels.flat_map(|channel| channel.config.application_organizations().values());
        let ids = organizations.map(|organization| organization.msp_id.as_str());
        ids.filter(|id| *id != self.msp_id).collect()
    }

    fn external_endpoint(&self) -> Vec<Finding> {
        const CHECK: &str = "external endpoint";
        let others = self.others();
        if self.external.is_empty() {
            let why = "peers of other organizations are never told where this node is: they cannot fetch blocks or private data from it, and do not list it";
            let advice = "write the host and port at which other organizations reach this node";
            let found = format!("{EXTERNAL} is not set");
            let finding = match (others.is_empty(), self.channels.is_empty()) {
                (false, _) => {
                    let others: Vec<_> = others.into_iter().collect();
                    let found = format!(
                        "{found}, and there are other organizations: {}",
                        others.join(", ")
                    );
                    Finding::fault(CHECK, found)
                }
                (true, true) => Finding::warning(CHECK, found),
                (true, false) => {
                    let found = format!("{found}; no channel here has other organizations");
                    return vec![Finding::ok(CHECK, found)];
                }
            };
            return vec![finding.because(why).change(EXTERNAL, advice)];
        }
        vec![self.own(CHECK, EXTERNAL, self.external)]
    }

    fn own_endpoint(&self) -> Option<Finding> {
        let is_told = self.endpoint != self.external;
        is_told.then(|| {
            let key = "peer.address, peer.gossip.endpoint";
            self.own("endpoint", key, self.endpoint)
        })
    }

    /// Whether we are where we say that we are.
    fn own(&self, check: &'static str, key: &str, endpoint: &str) -> Finding {
        let advice = "write the host and port at which others reach this node";
        let host = endpoint.rsplit_once(':').map(|(host, _)| host);
        if host.is_none_or(|host| ["", "0.0.0.0", "[::]"].contains(&host)) {
            return Finding::fault(
                check,
                format!("{endpoint:?} is nothing that others could dial"),
            )
            .because("others are told this text as it is")
            .change(key, advice);
        }
        let wrong = |found: String| {
            Finding::fault(check, found)
                .at(endpoint)
                .because("others are told to look for this node there")
                .change(key, advice)
        };
        match self.met.get(endpoint) {
            _ if !self.runs => {
                let found = format!("{endpoint}; whether it is reached shows when the node runs");
                Finding::ok(check, found).at(endpoint)
            }
            Some(Met::Peer(peer)) if Some(peer.pki_id) == self.me => {
                Finding::ok(check, format!("this node answers at {endpoint}")).at(endpoint)
            }
            Some(Met::Peer(peer)) => wrong(format!(
                "another peer answers at {endpoint}: {} of {}",
                peer.pki_id, peer.org
            )),
            Some(Met::Nobody(refusal)) => wrong(format!(
                "this node is not reached at {endpoint} from here: {}",
                refusal.told()
            )),
            Some(Met::Something) | None => {
                Finding::ok(check, format!("something listens at {endpoint}")).at(endpoint)
            }
        }
    }

    fn anchors(&self, channel: &Channel) -> Vec<Finding> {
        const CHECK: &str = "anchor peers";
        let organizations = || channel.config.application_organizations().values();
        let has_others = organizations().any(|each| each.msp_id != self.msp_id);
        let mut findings = Vec::new();
        for organization in organizations() {
            let id = &organization.msp_id;
            let is_ours = id == self.msp_id;
            if organization.anchors.is_empty() && has_others {
                findings.push(channel.judged(no_anchor(channel, id, is_ours)));
            }
            for endpoint in anchors(organization) {
                let name = format!("{endpoint} of {id} in channel {}", channel.name);
                let setting = format!(
                    "AnchorPeers of {id} in the configuration of channel {}",
                    channel.name
                );
                let finding = match self.met.get(&endpoint) {
                    Some(Met::Peer(peer)) if peer.org.as_str() == id => {
                        Finding::ok(CHECK, format!("{name} answers"))
                    }
                    Some(Met::Peer(peer)) => {
                        let found = format!("{name} is a peer of {}", peer.org);
                        let finding = if is_ours {
                            Finding::fault(CHECK, found)
                        } else {
                            Finding::warning(CHECK, found)
                        };
                        finding
                            .because("whoever begins with that anchor meets the wrong organization")
                            .change(
                                setting,
                                format!("have the administrators of {id} name peers of their own"),
                            )
                    }
                    Some(Met::Nobody(refusal)) => {
                        Finding::warning(CHECK, format!("{name} is not met: {}", refusal.told()))
                            .because("other organizations are met through their anchor peers")
                            .change(
                                setting,
                                refusal.advice("start that peer, or have another one named"),
                            )
                    }
                    None if self.is_own(&endpoint) => {
                        Finding::ok(CHECK, format!("{name} is this node"))
                    }
                    Some(Met::Something) => {
                        Finding::ok(CHECK, format!("something listens at {name}"))
                    }
                    None => {
                        Finding::ok(CHECK, format!("{name} was not dialled: there are too many"))
                    }
                };
                findings.push(channel.judged(finding.at(endpoint)));
            }
        }
        findings
    }

    /// That no root of an organization vouches for a certificate: the roots may be old.
    fn by_roots(&self, org: &str, finding: Finding) -> Finding {
        let naming = |channel: &&Channel| channel.config.msp(org).is_some();
        let mut naming = self.channels.iter().filter(naming);
        match naming.find(|channel| channel.is_old()) {
            Some(channel) => channel.judged(finding),
            None => finding,
        }
    }

    fn bootstrap(&self) -> Vec<Finding> {
        const CHECK: &str = "bootstrap";
        let others = self
            .bootstrap
            .iter()
            .filter(|endpoint| !self.is_own(endpoint));
        let others: Vec<_> = others.collect();
        if others.is_empty() {
            let anchored = self
                .channels
                .iter()
                .any(|channel| self.has_other_anchor(channel));
            let found = match self.bootstrap.is_empty() {
                true => format!("{BOOTSTRAP} names nobody"),
                false => format!("{BOOTSTRAP} names nobody but this node"),
            };
            // The first peer of an organization is its own bootstrap peer as a rule.
            if anchored || !self.bootstrap.is_empty() {
                return vec![Finding::ok(CHECK, format!("{found}; others find it"))];
            }
            return vec![
                Finding::warning(CHECK, found)
                    .because("this node meets peers of its organization only if they look for it")
                    .change(
                        BOOTSTRAP,
                        format!("name another peer of {}, if there is one", self.msp_id),
                    ),
            ];
        }
        others
            .into_iter()
            .map(|endpoint| self.bootstrap_peer(CHECK, endpoint))
            .collect()
    }

    fn has_other_anchor(&self, channel: &Channel) -> bool {
        let organizations = channel.config.application_organizations().values();
        let mut own = organizations
            .filter(|each| each.msp_id == self.msp_id)
            .flat_map(anchors);
        own.any(|endpoint| !self.is_own(&endpoint))
    }

    fn bootstrap_peer(&self, check: &'static str, endpoint: &str) -> Finding {
        let own = self.msp_id;
        let foreign = |org: &str, how: &str| {
            Finding::fault(check, format!("{endpoint} is of {org}, not of {own}{how}"))
                .at(endpoint)
                .because("a peer of another organization never tells this node of its own: it stays alone")
                .change(BOOTSTRAP, format!("name peers of {own} only; other organizations are met through anchor peers"))
        };
        match self.met.get(endpoint) {
            Some(Met::Peer(peer)) if peer.org.as_str() == own => {
                Finding::ok(check, format!("{endpoint} answers, a peer of {own}")).at(endpoint)
            }
            Some(Met::Peer(peer)) => foreign(peer.org.as_str(), ""),
            Some(Met::Nobody(refusal)) => {
                if let Some((channel, org)) = self.anchor_of(endpoint) {
                    return channel.judged(foreign(org, ", whose anchor peer it is"));
                }
                if let Some((channel, org)) = self.vouches(refusal) {
                    return channel.judged(foreign(org, ", by its TLS certificate"));
                }
                let found = format!("{endpoint} is not met: {}", refusal.told());
                if refusal.is_strange() {
                    return self.by_roots(own, Finding::fault(check, found)
                        .at(endpoint)
                        .because(format!("a peer of {own} has a certificate of its TLS CA: this one is of another organization, or a root is missing here"))
                        .change(
                            format!("{BOOTSTRAP}, peer.tls.rootcert.file"),
                            format!("name peers of {own} only in the one; or add the CA of that peer to the other"),
                        ));
                }
                Finding::warning(check, found)
                    .at(endpoint)
                    .because("through bootstrap peers this node meets those of its organization")
                    .change(
                        BOOTSTRAP,
                        refusal.advice("start that peer, or name another"),
                    )
            }
            Some(Met::Something) => {
                Finding::ok(check, format!("something listens at {endpoint}")).at(endpoint)
            }
            None => Finding::ok(
                check,
                format!("{endpoint} was not dialled: there are too many"),
            ),
        }
    }

    /// Members that the running node knows: whether it reaches them, too.
    fn known_members(&self) -> Vec<Finding> {
        const CHECK: &str = "members";
        let (mut reached, mut findings) = (0, Vec::new());
        for Member {
            endpoint,
            organization,
            ..
        } in self.members
        {
            let of = organization
                .as_deref()
                .unwrap_or("an organization that is not known yet");
            let Some(Met::Nobody(refusal)) = self.met.get(endpoint) else {
                reached += usize::from(self.met.contains_key(endpoint));
                continue;
            };
            if refusal.is_strange() && !self.has_roots_of(of) {
                let found =
                    format!("{endpoint} of {of}, of which no channel here has the TLS roots");
                findings.push(Finding::ok(CHECK, found).at(endpoint.clone()));
                continue;
            }
            let finding = Finding::warning(CHECK, format!("{endpoint} of {of} is not reached: {}", refusal.told()))
                .at(endpoint.clone())
                .because("it speaks with us or through others, but cannot be asked for blocks and private data from here")
                .change(
                    format!("{EXTERNAL} of that peer"),
                    refusal.advice("open the way to it, or have it correct where it says that it is"),
                );
            findings.push(match refusal.is_strange() {
                true => self.by_roots(of, finding),
                false => finding,
            });
        }
        if reached > 0 {
            let all = self.members.len();
            let found = format!("{reached} of {all} members that are known were reached");
            findings.insert(0, Finding::ok(CHECK, found));
        }
        findings
    }

    /// Whether certificates of this organization's peers can be judged; ours can by our own root.
    fn has_roots_of(&self, org: &str) -> bool {
        let mut channels = self.channels.iter();
        org == self.msp_id || channels.any(|channel| channel.config.msp(org).is_some())
    }

    /// The other organization whose anchor peer this is, and the channel that says so: one whose
    /// configuration is not old, if there is one.
    fn anchor_of(&self, endpoint: &str) -> Option<(&Channel, &str)> {
        let naming = self.channels.iter().filter_map(|channel| {
            let organizations = channel.config.application_organizations().values();
            let mut others = organizations.filter(|each| each.msp_id != self.msp_id);
            let named = others.find(|each| anchors(each).any(|anchor| anchor == endpoint))?;
            Some((channel, &*named.msp_id))
        });
        naming.min_by_key(|(channel, _)| channel.is_old())
    }

    /// The other organization that vouches for who is met, and the channel, as above; none if ours
    /// does, too.
    fn vouches<'r>(&self, refusal: &'r Refusal) -> Option<(&Channel, &'r str)> {
        let vouchers = &refusal.vouched_by;
        let is_ours = vouchers.iter().any(|(org, _)| org == self.msp_id);
        let vouching = vouchers.iter().filter_map(|(org, name)| {
            let mut channels = self.channels.iter();
            let channel = channels.find(|channel| channel.name == *name)?;
            Some((channel, &**org))
        });
        vouching
            .filter(|_| !is_ours)
            .min_by_key(|(channel, _)| channel.is_old())
    }
}

fn no_anchor(channel: &Channel, id: &str, is_ours: bool) -> Finding {
    const CHECK: &str = "anchor peers";
    let found = format!("channel {} names no anchor peer of {id}", channel.name);
    let setting = format!(
        "AnchorPeers of {id} in the configuration of channel {}",
        channel.name
    );
    if is_ours {
        return Finding::fault(CHECK, found)
            .at(channel.name.clone())
            .because("peers of other organizations have nobody of ours to begin with, and may never meet this node")
            .change(setting, "submit an update that names a peer of ours (`peer channel update`)");
    }
    Finding::warning(CHECK, found)
        .at(channel.name.clone())
        .because("we meet its peers only if they look for ours")
        .change(
            setting,
            "ask its administrators to submit an update that names a peer of theirs",
        )
}

impl Refusal {
    /// Why, with who issued the certificate that was seen.
    fn told(&self) -> String {
        let reason = self
            .reason
            .split_once("; ")
            .map_or(&*self.reason, |(reason, _)| reason);
        match &self.issuer {
            Some(issuer) if reason.contains("its certificate") => {
                format!("{reason} (it was issued by {issuer})")
            }
            _ => reason.to_owned(),
        }
    }

    /// Whether it shows a certificate that no root of ours vouches for.
    fn is_strange(&self) -> bool {
        self.vouched_by.is_empty() && self.reason.contains("not issued by a root that is trusted")
    }

    /// What to do, unless the reason says so itself.
    fn advice(&self, otherwise: &str) -> String {
        match self.reason.split_once("; ") {
            Some((_, advice)) => advice.to_owned(),
            // What somebody says who speaks TLS where we do not.
            None if self.reason.contains("protocol error") => {
                "compare peer.tls.enabled here and there".to_owned()
            }
            None => otherwise.to_owned(),
        }
    }
}

fn anchors(organization: &ApplicationOrganization) -> impl Iterator<Item = String> + '_ {
    let anchors = organization.anchors.iter();
    anchors.map(|anchor| format!("{}:{}", anchor.host, anchor.port))
}
