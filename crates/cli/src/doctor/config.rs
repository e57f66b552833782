//! The configuration as a whole: whether it can be read, and what in it nobody reads.

use std::io::{self, ErrorKind};
use std::path::Path;

use tidings_node::core_config::ConfigRefused;

use super::finding::{Finding, keys_in};

const CHECK: &str = "configuration";

/// Keys that are named in one finding.
const KEYS_MAX: usize = 8;

/// What is looked at where no more than this can be read.
pub(super) fn subject(path: Option<&Path>) -> String {
    let path = path.map_or_else(|| "core.yaml".to_owned(), |path| path.display().to_string());
    format!("{path}; nothing else is looked at until it can be read")
}

/// Why it cannot be used.
pub(super) fn refused(refused: &ConfigRefused) -> Finding {
    let reason = refused.to_string();
    let (setting, advice) = match refused {
        ConfigRefused::NoFile { .. } => (
            "FABRIC_CFG_PATH".to_owned(),
            "name the folder of core.yaml, or give --config",
        ),
        ConfigRefused::Yaml { path, .. } => (path.display().to_string(), "mend that line"),
        ConfigRefused::Unreadable {
            key: "", source, ..
        } => ("--config, FABRIC_CFG_PATH".to_owned(), cure(source)),
        ConfigRefused::NoAddress(_) => (
            "peer.address".to_owned(),
            "write the address at which others reach this node",
        ),
        ConfigRefused::Unreadable { key, source, .. } => ((*key).to_owned(), cure(source)),
        ConfigRefused::Value { key, .. } | ConfigRefused::Missing { key, .. } => {
            ((*key).to_owned(), "write what is wanted there")
        }
        ConfigRefused::Conflict(_) => (keys_in(&reason).join(", "), "see what was found"),
    };
    Finding::fault(CHECK, reason)
        .because("the node does not start")
        .change(setting, advice)
}

/// What to do about a file that cannot be read.
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "name a file that is there",
        ErrorKind::PermissionDenied => {
            "run this as the user that runs the node; if it is that one, make the file readable for it"
        }
        _ => "name a file of the right kind",
    }
}

/// Settings that are understood and not followed.
pub(super) fn not_followed(path: &str, warnings: &[String]) -> Vec<Finding> {
    let told = warnings.iter().map(|warning| {
        let keys = keys_in(warning).join(", ");
        // This path begins where a program is started, and the node is started elsewhere.
        let file = warning.split_once("cannot use its caCertsFile ");
        if file.is_some_and(|(_, file)| !file.starts_with('/')) {
            return Finding::warning(CHECK, format!("from this working directory {warning}"))
                .at(path)
                .change(keys, "write the whole path of caCertsFile: the node looks for it from its own working directory");
        }
        Finding::warning(CHECK, warning.clone())
            .at(path)
            .because("the node starts without it, and does not do what is written there")
            .change(keys, "correct it as it says, or remove it")
    });
    told.collect()
}

/// Keys that neither this program nor a Go peer knows.
pub(super) fn unknown(path: &str, keys: &[String]) -> Finding {
    if keys.is_empty() {
        return Finding::ok(CHECK, "every key is known").at(path);
    }
    let named: Vec<&str> = keys.iter().take(KEYS_MAX).map(String::as_str).collect();
    let more = keys.len() - named.len();
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = named.join(", ");
    Finding::warning(CHECK, format!("nobody reads {named}{more}"))
        .at(path)
        .because("a key that is misspelt is taken for one that is not set")
        .change(named, "correct the spelling, or remove it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_key() {
        let setting = |error: &ConfigRefused| refused(error).setting.unwrap();
        let both = ConfigRefused::Conflict(
            "peer.gossip.orgLeader and peer.gossip.useLeaderElection exclude each other: switch one off",
        );
        assert_eq!(
            setting(&both),
            "peer.gossip.orgLeader, peer.gossip.useLeaderElection"
        );
        let missing = ConfigRefused::Missing {
            key: "peer.localMspId",
            wanted: "the id",
        };
        assert_eq!(setting(&missing), "peer.localMspId");
        let value = ConfigRefused::Value {
            key: "validity.organizations",
            value: "17".to_owned(),
            wanted: "at most 16",
        };
        assert_eq!(setting(&value), "validity.organizations");
        let unreadable = |key, kind: ErrorKind| {
            let (path, source) = ("f".into(), kind.into());
            let finding = refused(&ConfigRefused::Unreadable { key, path, source });
            (finding.setting.unwrap(), finding.advice.unwrap())
        };
        let (setting, advice) = unreadable("", ErrorKind::NotFound);
        assert!(setting.starts_with("--config") && advice.contains("is there"));
        let (setting, advice) = unreadable("peer.tls.key.file", ErrorKind::PermissionDenied);
        assert!(
            setting == "peer.tls.key.file" && advice.contains("as the user that runs the node")
        );
    }

    #[test]
    fn what_is_not_followed_names_its_key() {
        let passed = "the entry for a:1 in peer.deliveryclient.addressOverrides is passed over, cannot use its caCertsFile /a.pem: x";
        let told = not_followed("f", &[passed.to_owned()]);
        let setting = told[0].setting.as_deref();
        assert_eq!(setting, Some("peer.deliveryclient.addressOverrides"));
        assert!(told[0].why.is_some());
        let told = not_followed("f", &[passed.replace("/a.pem", "a.pem")]);
        assert_eq!((told[0].setting.as_deref(), &told[0].why), (setting, &None));
        assert!(told[0].found.starts_with("from this working directory"));
    }

    #[test]
    fn many_keys_that_nobody_reads_are_counted() {
        let keys: Vec<String> = (0..KEYS_MAX + 2).map(|n| format!("peer.k{n}")).collect();
        assert!(unknown("f", &keys).found.ends_with("peer.k7 and 2 more"));
        assert!(unknown("f", &[]).setting.is_none());
    }
}
