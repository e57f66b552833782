//! `core.yaml` and the `CORE_…` variables, read as a Go peer reads them.
//!
//! Promises: a key means what it means to a Go peer; the environment wins over the file, and an
//! empty variable counts as set; a relative path is relative to the file. What a Go peer takes in
//! silence, a typo above all, is named once. Knows where values stand and of which kind they are,
//! not what they are for: that is [`Settings`].

mod address;
mod delivery;
mod known;
mod operations;
mod private;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tidings_msp::channel_config::parse_go_duration;

pub use self::settings::Settings;

/// Name of the file.
const FILE: &str = "core.yaml";

/// Names the folder of the file.
const FOLDER_VARIABLE: &str = "FABRIC_CFG_PATH";

/// Begins the name of every variable that sets a key.
const VARIABLE_PREFIX: &str = "CORE_";

/// Folder of the file when nobody names one, after the working directory.
const SYSTEM_DIR: &str = "/etc/hyperledger/fabric";

/// The sample file has some 40 kB; a much larger one is not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Shorter periods would keep the node busy with nothing but its timers. A bare number, which Go
/// reads as nanoseconds, is as a rule meant to be longer.
const DURATION_MIN: Duration = Duration::from_millis(1);

/// Longer ones could not be multiplied and added without care.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Why the configuration cannot be used. Each says which key or file, and what to write there.
#[derive(Debug, thiserror::Error)]
pub enum ConfigRefused {
    /// There is no file.
    #[error("no {FILE} in {places}; set {FOLDER_VARIABLE} to its folder, or give --config")]
    NoFile {
        /// Where it was looked for.
        places: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}{}: {source}", path.display(), for_key(key))]
    Unreadable {
        /// The key that names the file; empty for the configuration itself.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no YAML.
    #[error("{}: {reason}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// A value is not of its kind.
    #[error("{key}: {value:?} is not {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        wanted: &'static str,
    },
    /// A value that must be there is not.
    #[error("{key} must be set: {wanted}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What should be there.
        wanted: &'static str,
    },
    /// Two settings that exclude each other, or one of a pair.
    #[error("{0}")]
    Conflict(&'static str),
    /// The own address is to be found out, and cannot be.
    #[error(
        "no address of this machine leads to others ({0}): name it in peer.address or peer.gossip.endpoint"
    )]
    NoAddress(io::Error),
}

fn for_key(key: &str) -> String {
    if key.is_empty() {
        return String::new();
    }
    format!(", which {key} names")
}

/// All settings, from the file and the environment.
#[derive(Debug)]
pub struct CoreConfig {
    path: PathBuf,
    /// Leaves of the file by their dotted, lower-case key.
    file: BTreeMap<String, Value>,
    /// Variables by the key that they would stand for, `_` for `.`.
    environment: BTreeMap<String, String>,
    /// Keys that somebody wanted to know, lower case.
    asked: RefCell<BTreeSet<String>>,
    warnings: RefCell<Vec<String>>,
}

impl CoreConfig {
    /// Reads the file that is named, or the one in the folder that is named; else the one in
    /// `FABRIC_CFG_PATH`, else in the working directory, else in `/etc/hyperledger/fabric`.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigRefused> {
        let path = match named {
            Some(path) if path.is_dir() => path.join(FILE),
            Some(path) => path.to_owned(),
            None => find()?,
        };
        let unreadable = |source| ConfigRefused::Unreadable {
            key: "",
            path: path.clone(),
            source,
        };
        if fs::metadata(&path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
            return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
        }
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        // A variable that is not text cannot be a setting.
        let variables = env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::parse(&text, &path, variables)
    }

    /// Takes the text of a file that lies at `path`, and variables.
    fn parse(
        text: &str,
        path: &Path,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigRefused> {
        let tree: Option<Value> =
            serde_saphyr::from_str(text).map_err(|error| ConfigRefused::Yaml {
                path: path.to_owned(),
                // An excerpt of the file would take several lines.
                reason: error.without_snippet().to_string(),
            })?;
        let mut file = BTreeMap::new();
        if let Some(tree) = tree {
            flatten(String::new(), tree, &mut file);
        }
        let environment = variables
            .filter_map(|(name, value)| {
                let key = name.strip_prefix(VARIABLE_PREFIX)?.to_ascii_lowercase();
                Some((key, value))
            })
            .collect();
        Ok(Self {
            path: path.to_owned(),
            file,
            environment,
            asked: RefCell::default(),
            warnings: RefCell::default(),
        })
    }

    /// The file that was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `peer.fileSystemPath`, for those who want nothing else of the settings.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigRefused> {
        self.place("peer.fileSystemPath", "the folder for the ledgers")
    }

    /// Keys of the file and variables that neither this program nor a Go peer understands. To be
    /// asked after everything else.
    pub fn unknown(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        let variables: BTreeSet<_> = asked.iter().map(|key| key.replace('.', "_")).collect();
        let from_file = self.file.keys();
        let from_file =
            from_file.filter(|key| !asked.contains(*key) && !known::elsewhere(key, '.'));
        let from_environment = self
            .environment
            .keys()
            .filter(|name| !variables.contains(*name) && !known::elsewhere(name, '_'))
            .map(|name| format!("{VARIABLE_PREFIX}{}", name.to_ascii_uppercase()));
        from_file.cloned().chain(from_environment).collect()
    }

    /// What was understood and is not followed, each with its key. To be asked after everything else.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.borrow().clone()
    }

    /// Tells of what keeps nobody from starting, and does not what was meant.
    pub(crate) fn warn(&self, text: String) {
        tracing::warn!(target: "peer", "{text}");
        self.warnings.borrow_mut().push(text);
    }

    /// A text; none if it is not set or empty.
    pub(crate) fn text(&self, key: &'static str) -> Result<Option<String>, ConfigRefused> {
        let text = match self.find(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text,
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(flag)) => flag.to_string(),
            Some(other) => return Err(bad(key, &other.to_string(), "a text")),
        };
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// A text that must be there.
    pub(crate) fn must(
        &self,
        key: &'static str,
        wanted: &'static str,
    ) -> Result<String, ConfigRefused> {
        self.text(key)?
            .ok_or(ConfigRefused::Missing { key, wanted })
    }

    /// A truth; the default if it is not set or empty.
    pub(crate) fn flag(&self, key: &'static str, default: bool) -> Result<bool, ConfigRefused> {
        match self.text(key)?.as_deref() {
            None => Ok(default),
            Some("true" | "TRUE" | "True" | "t" | "T" | "1") => Ok(true),
            Some("false" | "FALSE" | "False" | "f" | "F" | "0") => Ok(false),
            Some(other) => Err(bad(key, other, "true or false")),
        }
    }

    /// A number as it stands; the default only if it is not set or empty.
    pub(crate) fn literal<N: TryFrom<u64>>(
        &self,
        key: &'static str,
        default: N,
    ) -> Result<N, ConfigRefused> {
        let Some(text) = self.text(key)? else {
            return Ok(default);
        };
        let number = text.parse::<u64>().ok().and_then(|n| N::try_from(n).ok());
        number.ok_or_else(|| bad(key, &text, "a whole number from 0 on, not too large"))
    }

    /// A number where zero means the default, as for most keys of gossip.
    pub(crate) fn number_or<N: TryFrom<u64> + From<u8> + PartialEq>(
        &self,
        key: &'static str,
        default: N,
    ) -> Result<N, ConfigRefused> {
        let number = self.literal(key, N::from(0))?;
        Ok(if number == N::from(0) {
            default
        } else {
            number
        })
    }

    /// A duration as Go writes it, or a bare number of nanoseconds; none if it is not set or
    /// empty.
    pub(crate) fn duration(&self, key: &'static str) -> Result<Option<Duration>, ConfigRefused> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let has_unit = text.contains(|letter| "nsuµμmh".contains(letter));
        let parsed = if has_unit {
            parse_go_duration(&text)
        } else {
            parse_go_duration(&format!("{text}ns"))
        };
        parsed
            .ok()
            .filter(|duration| *duration <= DURATION_MAX)
            .map(Some)
            .ok_or_else(|| bad(key, &text, "a duration such as 10s or 1m30s"))
    }

    /// A duration where zero means the default.
    pub(crate) fn duration_or(
        &self,
        key: &'static str,
        default: Duration,
    ) -> Result<Duration, ConfigRefused> {
        let set = self.duration(key)?.filter(|duration| !duration.is_zero());
        Ok(set.unwrap_or(default).max(DURATION_MIN))
    }

    /// A list; one that is written as a text is split at white space.
    pub(crate) fn list(&self, key: &'static str) -> Result<Vec<String>, ConfigRefused> {
        match self.find(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(text.split_whitespace().map(str::to_owned).collect()),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text),
                    other => Err(bad(key, &other.to_string(), "a list of texts")),
                })
                .collect(),
            Some(other) => Err(bad(key, &other.to_string(), "a list of texts")),
        }
    }

    /// A path, relative to the file.
    pub(crate) fn place(
        &self,
        key: &'static str,
        wanted: &'static str,
    ) -> Result<PathBuf, ConfigRefused> {
        Ok(self.beside(&self.must(key, wanted)?))
    }

    /// The content of the file that a key names.
    pub(crate) fn content(&self, key: &'static str) -> Result<Option<Vec<u8>>, ConfigRefused> {
        self.text(key)?
            .map(|name| self.read(key, &name))
            .transpose()
    }

    /// The contents of the files that a list names.
    pub(crate) fn contents(&self, key: &'static str) -> Result<Vec<Vec<u8>>, ConfigRefused> {
        let names = self.list(key)?;
        names.iter().map(|name| self.read(key, name)).collect()
    }

    fn read(&self, key: &'static str, name: &str) -> Result<Vec<u8>, ConfigRefused> {
        let path = self.beside(name);
        fs::read(&path).map_err(|source| ConfigRefused::Unreadable { key, path, source })
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.path
            .parent()
            .unwrap_or_else(|| Path::new(""))
            .join(name)
    }

    fn find(&self, key: &str) -> Option<Value> {
        let key = key.to_ascii_lowercase();
        let variable = self.environment.get(&key.replace('.', "_"));
        let found = variable
            .map(|value| Value::from(value.as_str()))
            .or_else(|| self.file.get(&key).cloned());
        self.asked.borrow_mut().insert(key);
        found
    }
}

fn bad(key: &'static str, value: &str, wanted: &'static str) -> ConfigRefused {
    ConfigRefused::Value {
        key,
        value: value.to_owned(),
        wanted,
    }
}

/// Where the file is when nobody named one.
fn find() -> Result<PathBuf, ConfigRefused> {
    let places = match env::var_os(FOLDER_VARIABLE).filter(|dir| !dir.is_empty()) {
        Some(dir) => vec![PathBuf::from(dir)],
        None => vec![PathBuf::from("."), PathBuf::from(SYSTEM_DIR)],
    };
    let mut files = places.iter().map(|dir| dir.join(FILE));
    files
        .find(|path| path.is_file())
        .ok_or_else(|| ConfigRefused::NoFile {
            places: places
                .iter()
                .map(|dir| dir.display().to_string())
                .collect::<Vec<_>>()
                .join(" or "),
        })
}

/// Puts every value that is not a mapping under its dotted key.
fn flatten(key: String, value: Value, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                let name = name.to_ascii_lowercase();
                let key = if key.is_empty() {
                    name
                } else {
                    format!("{key}.{name}")
                };
                flatten(key, value, leaves);
            }
        }
        leaf => {
            leaves.insert(key, leaf);
        }
    }
}
