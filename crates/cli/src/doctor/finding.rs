//! What was found, how bad it is, and what to change.

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// It is as it should be.
    Ok,
    /// It works, or may, and somebody should look at it.
    Warning,
    /// It keeps the node, or one of its channels, from its work.
    Fault,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What was looked at, in a word or two.
    pub(crate) check: &'static str,
    /// What was found.
    pub(crate) found: String,
    /// The file, endpoint or channel.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<String>,
    /// What comes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// The key in `core.yaml`, or whatever else is to be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) setting: Option<String>,
    /// How.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(Severity::Ok, check, found)
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(Severity::Warning, check, found)
    }

    pub(super) fn fault(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(Severity::Fault, check, found)
    }

    pub(super) fn new(severity: Severity, check: &'static str, found: impl Into<String>) -> Self {
        Self {
            severity,
            check,
            found: found.into(),
            place: None,
            why: None,
            setting: None,
            advice: None,
        }
    }

    /// Where it was found.
    #[must_use]
    pub(super) fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Why it matters.
    #[must_use]
    pub(super) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// What to change, and how.
    #[must_use]
    pub(super) fn change(mut self, setting: impl Into<String>, advice: impl Into<String>) -> Self {
        self.setting = Some(setting.into());
        self.advice = Some(advice.into());
        self
    }

    /// What may be no fault once something else is mended, which is why nothing is to be changed
    /// for it before.
    #[must_use]
    pub(super) fn unsettled(mut self, why: impl Into<String>) -> Self {
        if self.severity != Severity::Ok {
            self.severity = Severity::Warning;
            self.why = Some(why.into());
            self.setting = None;
            self.advice = None;
        }
        self
    }
}

/// Sections of `core.yaml`, which keys begin with.
const SECTIONS: &[&str] = &[
    "peer.",
    "operations.",
    "http.",
    "ledger.",
    "metrics.",
    "validity.",
];

/// The keys of `core.yaml` that a text names, such as the reason why a configuration is refused.
pub(super) fn keys_in(text: &str) -> Vec<&str> {
    let words = text.split(|letter: char| letter.is_whitespace() || "(),;\"".contains(letter));
    let words = words.map(|word| word.trim_end_matches([':', '.']));
    let mut keys: Vec<&str> = Vec::new();
    for word in words {
        let is_key = SECTIONS.iter().any(|section| {
            word.strip_prefix(section)
                .is_some_and(|rest| !rest.is_empty())
        });
        if is_key && !word.contains(['/', ':']) && !keys.contains(&word) {
            keys.push(word);
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_the_words_of_a_refusal() {
        for (text, keys) in [
            (
                "peer.gossip.orgLeader and peer.gossip.useLeaderElection exclude each other: switch one off",
                &["peer.gossip.orgLeader", "peer.gossip.useLeaderElection"][..],
            ),
            (
                "the key in peer.tls.key.file (/a/peer.key) does not belong to the certificate in peer.tls.cert.file (/b)",
                &["peer.tls.key.file", "peer.tls.cert.file"],
            ),
            ("peer.address: \"x\" is not host:port", &["peer.address"]),
            (
                "cannot read the MSP folder x; peer.mspConfigPath must",
                &["peer.mspConfigPath"],
            ),
            (
                "validity.organizations needs peer.tls.enabled: x",
                &["validity.organizations", "peer.tls.enabled"],
            ),
            ("no such peer. operations go on", &[]),
        ] {
            assert_eq!(keys_in(text), keys, "{text}");
        }
    }

    #[test]
    fn what_is_unsettled_is_told_without_advice() {
        let fault = Finding::fault("tls", "old").at("f").change("k", "a");
        let told = fault.unsettled("first that");
        assert_eq!(
            told,
            Finding::warning("tls", "old").at("f").because("first that")
        );
        let ok = Finding::ok("tls", "good");
        assert_eq!(ok.clone().unsettled("first that"), ok);
    }

    #[test]
    fn what_is_not_said_is_not_in_the_json() {
        let ok = serde_json::to_string(&Finding::ok("tls", "good")).unwrap();
        assert_eq!(ok, r#"{"severity":"ok","check":"tls","found":"good"}"#);
        let fault = Finding::fault("tls", "old")
            .at("f")
            .because("b")
            .change("k", "a");
        assert_eq!(
            serde_json::to_string(&fault).unwrap(),
            r#"{"severity":"fault","check":"tls","found":"old","where":"f","why":"b","setting":"k","advice":"a"}"#
        );
    }
}
