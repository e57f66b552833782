//! The orderers that the channels name, and what they say of the chain.
//!
//! Asked as a leader asks them, for the first and the newest block only.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use tidings_ledger::BlockHash;
use tidings_msp::block::last_config_index;
use tidings_msp::certificate::Certificate;
use tidings_node::service::DeliverySettings;
use tidings_node::tls::{self, Blamed, ClientIdentity, presented};
use tidings_proto::Message as _;
use tidings_proto::block::BlockView;
use tidings_proto::common::Status;
use tidings_proto::orderer::{SeekNewest, SeekOldest, seek_position::Type as Position};
use tokio::time::timeout;

use super::ask::{Answer, Asker};
use super::channels::{Age, Channel, short};
use super::clock::{self, Offset};
use super::finding::Finding;
use super::identity::Local;

const CHECK: &str = "orderer";

const OVERRIDES: &str = "peer.deliveryclient.addressOverrides";

/// Orderers of one channel that are asked.
pub(super) const ORDERERS_MAX: usize = 16;

/// One that was asked, or could not be.
#[derive(Debug)]
pub(super) struct Asked {
    /// The channel.
    pub(super) channel: String,
    /// The address in its configuration.
    pub(super) endpoint: String,
    /// The organization that names it; none for the global addresses.
    organization: Option<String>,
    /// Where it was dialled, if elsewhere.
    instead: Option<String>,
    /// What came of it.
    pub(super) outcome: Result<Said, Trouble>,
}

/// What an orderer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Header hash of its first block.
    pub(super) genesis: Option<BlockHash>,
    /// Blocks that it has.
    pub(super) height: u64,
    /// In which of them the newest configuration is.
    pub(super) config_at: Option<u64>,
    /// How far its clock is from ours, or why that is not known.
    pub(super) clock: Result<Offset, String>,
}

/// Why an orderer gives nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody vouches for it.
    NoRoots,
    /// Its certificate is not good for us.
    Theirs {
        reason: String,
        issuer: Option<String>,
        trusted: Vec<String>,
    },
    /// Our certificate is not good for it.
    Ours(String),
    /// There is no connection.
    Unreachable(String),
    /// It answers, with a status.
    Status(Status, Result<Offset, String>),
    /// It says nothing that is understood.
    Broken(String),
}

/// What asking needs.
pub(super) struct Asking<'a> {
    pub(super) local: &'a Local,
    pub(super) identity: Option<ClientIdentity>,
    /// Whether our certificate is shown.
    pub(super) shows: bool,
    pub(super) delivery: &'a DeliverySettings,
    /// Our clock.
    pub(super) clock: fn() -> SystemTime,
}

impl Asking<'_> {
    /// Asks all orderers of all channels, side by side.
    pub(super) async fn all(&self, channels: &[Channel]) -> Vec<Asked> {
        let asked = channels.iter().flat_map(|channel| {
            let groups = channel.config.orderer_endpoints();
            let orderers = groups.into_iter().flat_map(|group| {
                let roots = group.tls_roots;
                let organization = group.organization;
                group
                    .addresses
                    .into_iter()
                    .map(move |address| (address, organization.clone(), roots.clone()))
            });
            orderers
                .take(ORDERERS_MAX)
                .map(|(endpoint, organization, roots)| {
                    self.one(channel, endpoint, organization, roots)
                })
        });
        join_all(asked).await
    }

    async fn one(
        &self,
        channel: &Channel,
        endpoint: String,
        organization: Option<String>,
        roots: Vec<Bytes>,
    ) -> Asked {
        let instead = self.delivery.address_overrides.get(&endpoint);
        let (address, roots) = match instead {
            Some(instead) => {
                let roots = instead.tls_roots.iter();
                (
                    &instead.to,
                    roots.map(|root| Bytes::copy_from_slice(root)).collect(),
                )
            }
            None => (&endpoint, roots),
        };
        let outcome = self.ask(&channel.name, address, &roots).await;
        Asked {
            channel: channel.name.clone(),
            instead: instead.map(|instead| instead.to.clone()),
            endpoint,
            organization,
            outcome,
        }
    }

    async fn ask(&self, channel: &str, address: &str, roots: &[Bytes]) -> Result<Said, Trouble> {
        if self.identity.is_some() && roots.is_empty() {
            return Err(Trouble::NoRoots);
        }
        let limit = self.delivery.connect_timeout;
        let dial = tls::channel(address, self.identity.as_ref(), roots, self.shows);
        let connection = match timeout(limit, dial).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                let reason = error.to_string();
                return Err(match error.blamed() {
                    Some(Blamed::Theirs) => theirs(address, reason, roots, limit).await,
                    Some(Blamed::Ours) => Trouble::Ours(reason),
                    Some(Blamed::NotTls) | None => Trouble::Unreachable(reason),
                });
            }
            Err(_elapsed) => {
                let reason = format!("cannot connect to {address} within {limit:?}");
                return Err(Trouble::Unreachable(reason));
            }
        };
        let shown = self.identity.as_ref().filter(|_| self.shows);
        let bound_to = shown.map(|identity| Bytes::copy_from_slice(&identity.certificate_sha256()));
        let asker = Asker {
            connection,
            signer: self.local.signer.clone(),
            bound_to: bound_to.unwrap_or_default(),
            clock: self.clock,
        };
        chain(&asker, channel).await
    }
}

async fn chain(asker: &Asker, channel: &str) -> Result<Said, Trouble> {
    let clock = clock::of(asker).await;
    let ask = |position| asker.ask(channel, Some(position), 0);
    let block = |answer| match answer {
        Ok(Answer::Block(block)) => Ok(block),
        Ok(Answer::Status(status)) => Err(Trouble::Status(status, clock.clone())),
        Err(reason) => Err(Trouble::Broken(reason)),
    };
    let newest = block(ask(Position::Newest(SeekNewest {})).await)?;
    let newest = BlockView::parse(newest.encode_to_vec().into()).ok();
    let number = newest.as_ref().and_then(BlockView::number);
    let oldest = block(ask(Position::Oldest(SeekOldest {})).await)?;
    let oldest = BlockView::parse(oldest.encode_to_vec().into()).ok();
    Ok(Said {
        genesis: oldest.and_then(|block| BlockHash::of(&block)),
        height: number.unwrap_or_default().saturating_add(1),
        config_at: newest.as_ref().and_then(last_config_index),
        clock,
    })
}

/// Whose certificate it is, and whose would be good.
async fn theirs(address: &str, reason: String, roots: &[Bytes], limit: Duration) -> Trouble {
    let shown = presented(address, limit).await.unwrap_or_default();
    let leaf = shown
        .first()
        .and_then(|leaf| Certificate::from_der(leaf).ok());
    let trusted = roots.iter().filter_map(|root| {
        let root = Certificate::from_der(root).or_else(|_| Certificate::from_pem(root));
        Some(root.ok()?.subject().to_owned())
    });
    Trouble::Theirs {
        reason,
        issuer: leaf.map(|leaf| leaf.issuer().to_owned()),
        trusted: trusted.collect(),
    }
}

/// What it means for each channel.
pub(super) fn judge(asked: &[Asked], channels: &[Channel]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for channel in channels {
        let of: Vec<_> = asked
            .iter()
            .filter(|each| each.channel == channel.name)
            .collect();
        if of.is_empty() {
            let none = Finding::fault(CHECK, format!("channel {} names no orderer", channel.name))
                .at(channel.name.clone())
                .because("there is nowhere to pull blocks from")
                .change(
                    "the orderer addresses in the channel's configuration",
                    "have them added",
                );
            findings.push(channel.hedged(none));
        }
        let some_serve = of.iter().any(|each| each.outcome.is_ok());
        findings.extend(
            of.into_iter()
                .flat_map(|each| each.judge(channel, some_serve)),
        );
    }
    findings
}

/// Entries for addresses that no channel names.
pub(super) fn unused(delivery: &DeliverySettings, channels: &[Channel]) -> Vec<Finding> {
    let groups = channels
        .iter()
        .flat_map(|channel| channel.config.orderer_endpoints());
    let named: BTreeSet<String> = groups.flat_map(|group| group.addresses).collect();
    // A newer configuration may name it.
    let is_known = !named.is_empty() && channels.iter().all(|each| each.age == Age::Newest);
    let entries = delivery.address_overrides.keys();
    let unused = entries.filter(|from| is_known && !named.contains(*from));
    let all = named.iter().take(ORDERERS_MAX).map(String::as_str);
    let all: Vec<&str> = all.collect();
    let told = unused.map(|from| {
        let found = format!("no channel here names an orderer at {from}, for which {OVERRIDES} has an entry; they name {}", all.join(", "));
        Finding::warning(CHECK, found)
            .because("an entry counts only if its `from` is written as in the channel's configuration")
            .change(OVERRIDES, "correct `from` of that entry, or remove it")
    });
    told.collect()
}

impl Asked {
    fn place(&self) -> String {
        match &self.instead {
            Some(instead) => format!("{instead} (in place of {})", self.endpoint),
            None => self.endpoint.clone(),
        }
    }

    fn judge(&self, channel: &Channel, some_serve: bool) -> Vec<Finding> {
        let place = self.place();
        let name = &channel.name;
        let said = match &self.outcome {
            Ok(said) => said,
            Err(trouble) => {
                let finding = self.trouble(trouble, some_serve).at(place);
                // What an entry of ours says does not come from the channel.
                return vec![match (&self.instead, trouble, channel.age) {
                    (Some(_), _, _) => finding,
                    (None, Trouble::Unreachable(_), _) => channel.hedged(finding),
                    // A newer one may have other roots for it.
                    (None, _, Age::Behind(_)) => channel.judged(finding),
                    // Who gives no block may be why there is no newer one here.
                    (None, _, _) => channel.hedged(finding),
                }];
            }
        };
        let found = format!("{place} serves channel {name}, height {}", said.height);
        let mut findings = vec![Finding::ok(CHECK, found).at(place.clone())];
        if let (Some(theirs), Some(ours)) = (said.genesis, channel.genesis())
            && theirs != ours
        {
            let (whose, setting, advice) = match &channel.held {
                Some(held) => (
                    format!("that of the ledger in {}", held.place.display()),
                    "peer.fileSystemPath".to_owned(),
                    format!(
                        "stop the node, remove {}, and join with the genesis block that this orderer serves",
                        held.place.display()
                    ),
                ),
                None => (
                    "the one that was given".to_owned(),
                    "--join of `tidings node start`".to_owned(),
                    "fetch the genesis block from this orderer (`peer channel fetch oldest`)"
                        .to_owned(),
                ),
            };
            findings.push(
                Finding::fault(
                    "genesis",
                    format!("{place} serves another chain of the name {name}: its first block has the hash {}, and {whose} {}", short(&theirs), short(&ours)),
                )
                .at(place)
                .because("no block of that chain fits onto this ledger, and none is taken")
                .change(setting, advice),
            );
        }
        findings
    }

    fn trouble(&self, trouble: &Trouble, some_serve: bool) -> Finding {
        let (place, channel) = (self.place(), &self.channel);
        let why = "a leader pulls blocks from the orderers: without one no new block comes to our organization";
        match trouble {
            Trouble::NoRoots => Finding::fault(CHECK, format!("nothing vouches for {place}: there is no TLS root for it"))
                .because(why)
                .change(self.roots_setting(), "have its TLS CA named"),
            Trouble::Theirs { reason, issuer, trusted } => {
                let issuer = issuer.as_deref().unwrap_or("nobody that can be read");
                let found = format!("{reason}; it was issued by {issuer}, and trusted are: {}", trusted.join(", "));
                Finding::fault(CHECK, found)
                    .because(why)
                    .change(self.roots_setting(), format!("have the CA named that issued the certificate of {place}; or correct the orderer"))
            }
            Trouble::Ours(reason) => Finding::fault(CHECK, reason.clone())
                .because(why)
                .change("peer.tls.cert.file, peer.tls.clientCert.file", "use a certificate of a TLS CA that the orderer knows"),
            Trouble::Unreachable(reason) => self.unreachable(reason, some_serve).because(why),
            Trouble::Status(Status::Forbidden, _) => {
                Finding::fault(CHECK, format!("{place} refuses us (FORBIDDEN): our identity is no reader of channel {channel} there"))
                    .because(why)
                    .change("peer.localMspId, peer.mspConfigPath", "name an organization of the channel, and a certificate of it that has not expired or been revoked")
            }
            Trouble::Status(Status::NotFound, _) => {
                let found = format!("{place} does not know channel {channel} (NOT_FOUND)");
                let finding = if some_serve { Finding::warning(CHECK, found) } else { Finding::fault(CHECK, found) };
                finding
                    .because(why)
                    .change("the orderer addresses in the channel's configuration", "have orderers named that are in the channel; or this channel is one of another network")
            }
            Trouble::Status(Status::BadRequest, _) => {
                Finding::fault(CHECK, format!("{place} refuses our requests (BAD_REQUEST), as it does when the clocks are far apart, or when a certificate must be shown"))
                    .because(why)
                    .change("the clock of this machine; peer.tls.clientAuthRequired", "set the clock by NTP; set the key to true where orderers want a TLS certificate")
            }
            Trouble::Status(status, _) => {
                Finding::warning(CHECK, format!("{place} does not serve now ({})", status.as_str_name()))
                    .because(why)
                    .change("the orderer", "look at its log")
            }
            Trouble::Broken(reason) if reason.starts_with("Unimplemented") => {
                let found = format!("what answers at {place} is no orderer");
                let setting = match self.instead {
                    Some(_) => OVERRIDES,
                    None => "the orderer addresses in the channel's configuration",
                };
                Finding::fault(CHECK, found).because(why).change(setting, "have the address of an orderer there")
            }
            Trouble::Broken(reason) => {
                let found = format!("{place} gives no answer: {reason}");
                let finding = if some_serve { Finding::warning(CHECK, found) } else { Finding::fault(CHECK, found) };
                finding
                    .because(why)
                    .change("peer.tls.enabled; the orderer", "see that both ends have TLS, or none; look at its log")
            }
        }
    }

    /// An entry of ours that says where to dial is nearer than the orderer.
    fn unreachable(&self, reason: &str, some_serve: bool) -> Finding {
        let from = &self.endpoint;
        let (found, advice) = match &self.instead {
            Some(to) => (
                format!("{to} is dialled in place of the orderer {from}, as {OVERRIDES} says, and not reached: {reason}"),
                format!("correct `to` of the entry for {from}, or remove the entry if that address is good from here; otherwise start the orderer, or open the way to it"),
            ),
            None => (
                format!("the orderer is not reached: {reason}"),
                "if the address is not good from here, add an entry for it; otherwise start that orderer, or open the way to it".to_owned(),
            ),
        };
        let finding = match some_serve {
            true => Finding::warning(CHECK, found),
            false => Finding::fault(CHECK, found),
        };
        finding.change(OVERRIDES, advice)
    }

    /// Where it is written who vouches for it.
    fn roots_setting(&self) -> String {
        if self.instead.is_some() {
            return format!("caCertsFile in {OVERRIDES}");
        }
        let of = self
            .organization
            .as_deref()
            .unwrap_or("the orderers' organizations");
        format!(
            "TLS roots in the MSP of {of} in the configuration of channel {}; or {OVERRIDES}",
            self.channel
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::sample;
    use crate::doctor::channels;
    use crate::doctor::finding::Severity;

    #[test]
    fn an_entry_of_ours_that_leads_nowhere_is_named_before_the_orderer() {
        let mut asked = Asked {
            channel: "ch".into(),
            endpoint: "orderer:7050".into(),
            organization: None,
            instead: None,
            outcome: Err(Trouble::Unreachable("refused".into())),
        };
        let told = |asked: &Asked| match &asked.outcome {
            Err(trouble) => asked.trouble(trouble, false),
            Ok(said) => panic!("{said:?}"),
        };
        assert!(told(&asked).found.starts_with("the orderer is not reached"));
        asked.instead = Some("127.0.0.1:1".into());
        let finding = told(&asked);
        let found = "127.0.0.1:1 is dialled in place of the orderer orderer:7050, as peer.deliveryclient.addressOverrides says";
        assert!(finding.found.starts_with(found), "{finding:?}");
        let advice = finding.advice.unwrap();
        assert!(advice.starts_with("correct `to` of the entry"), "{advice}");
        assert_eq!(finding.setting.as_deref(), Some(OVERRIDES));
        asked.outcome = Err(Trouble::Broken("Unimplemented: ".into()));
        let finding = told(&asked);
        assert!(finding.found.ends_with("is no orderer"), "{finding:?}");
        assert_eq!(finding.setting.as_deref(), Some(OVERRIDES));
    }
    #[test]
    fn an_orderer_that_is_not_reached_stays_a_fault_however_old_the_configuration_is() {
        let (dir, _material) = sample::network(1);
        let files = [dir.path().join("genesis.block")];
        let (mut channels, _) = channels::look(None, &dir.path().join("data"), &files);
        let mut asked = Asked {
            channel: channels[0].name.clone(),
            endpoint: "127.0.0.1:7000".into(),
            organization: None,
            instead: None,
            outcome: Err(Trouble::Unreachable("refused".into())),
        };
        for age in [Age::Newest, Age::Claimed, Age::Unknown, Age::Behind(10)] {
            channels[0].age = age;
            let told = asked.judge(&channels[0], false).remove(0);
            let named = (told.severity, told.setting.as_deref());
            assert_eq!(named, (Severity::Fault, Some(OVERRIDES)), "{age:?}");
            let adds = told.advice.unwrap().contains("; or a newer configuration");
            assert_eq!(adds, age != Age::Newest, "{age:?}");
        }
        asked.outcome = Err(Trouble::NoRoots);
        for (age, severity) in [
            (Age::Claimed, Severity::Fault),
            (Age::Unknown, Severity::Fault),
            (Age::Behind(10), Severity::Warning),
        ] {
            channels[0].age = age;
            let told = asked.judge(&channels[0], false).remove(0);
            assert_eq!(told.severity, severity, "{age:?}");
        }
    }
}
