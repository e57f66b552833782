//! The node's end of the socket.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use tidings_gossip::id::ChannelId;
use tidings_ledger::{
    Reader,
    private::{Purged, Queue},
};
use tidings_node::directory::Served;
use tidings_node::history::last_config;
use tidings_node::private::PrivateData;
use tidings_node::vitals::Vitals;
use tidings_proto::block::BlockView;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    Answer, Info, Joined, Lacking, MISSING_MAX, Missing, QUESTION_LEN_MAX, Question, Which,
};
use crate::complaint::in_one_line;

/// Questions at a time: each may hold a block in memory. Others wait.
const CONNECTIONS_MAX: usize = 8;

/// How many may wait to be let in.
const BACKLOG: u32 = 64;

/// Longest wait for a question, and for its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause after a connection that could not be taken, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(100);

/// What only the owner of the node can do.
pub(crate) enum Errand {
    /// Join a channel.
    Join(Bytes, oneshot::Sender<Result<Joined>>),
    /// Leave a channel.
    Leave(ChannelId, oneshot::Sender<Result<()>>),
    /// Hand out what knows of a channel's private data.
    PrivateData(ChannelId, oneshot::Sender<Result<PrivateData>>),
    /// Hand out what reads the ledger of a channel.
    Reader(ChannelId, oneshot::Sender<Result<Reader>>),
    /// Hand out what can be read.
    Channels(oneshot::Sender<Vec<Arc<Served>>>),
    /// Hand out what knows how the node is, which can be asked while it does something else.
    Vitals(oneshot::Sender<Vitals>),
}

/// An open socket. It is removed when this is dropped.
pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Opens the socket, in place of one that nobody answers at any more.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)
                .with_context(|| format!("cannot make the folder {}", dir.display()))?;
        }
        clear(path)?;
        let context = || {
            format!(
                "cannot open the socket {}: name another place with --socket",
                path.display()
            )
        };
        let socket = UnixSocket::new_stream().with_context(context)?;
        socket.bind(path).with_context(context)?;
        // Before anybody can connect.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(context)?;
        let listener = socket.listen(BACKLOG).with_context(context)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers for ever.
    pub(crate) async fn serve(&self, errands: &mpsc::Sender<Errand>) {
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let errands = errands.clone();
                    tokio::spawn(async move {
                        // Whoever asks and does not listen is told nothing, and nobody else cares.
                        let _ = tokio::time::timeout(PATIENCE, attend(stream, &errands)).await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    tracing::warn!(target: "peer.admin", "cannot take a connection: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes away a socket that was left behind.
fn clear(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let place = path.display();
    if !metadata.file_type().is_socket() {
        bail!(
            "{place} is in the way of the admin socket: move it away, or name another place with --socket"
        );
    }
    match BlockingStream::connect(path) {
        Ok(_) => bail!("a node answers at {place} already: stop it first"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .with_context(|| format!("cannot remove {place}, which was left behind")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(anyhow!(
            "cannot tell whether a node answers at {place}: {error}"
        )),
    }
}

/// Answers the questions of one connection.
async fn attend(stream: UnixStream, errands: &mpsc::Sender<Errand>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut stream)
            .take(QUESTION_LEN_MAX)
            .read_until(b'\n', &mut line)
            .await?;
        if line.is_empty() {
            return Ok(());
        }
        let complete = line.last() == Some(&b'\n');
        let answer = if complete {
            reply(&line, errands)
                .await
                .unwrap_or_else(|error| Answer::Refused(in_one_line(&error)))
        } else {
            Answer::Refused(format!(
                "a question has one line of at most {QUESTION_LEN_MAX} bytes"
            ))
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        stream.get_mut().write_all(&line).await?;
        if !complete {
            return Ok(());
        }
    }
}

async fn reply(line: &[u8], errands: &mpsc::Sender<Errand>) -> Result<Answer> {
    let question = serde_json::from_slice(line).context("the question is not understood")?;
    let (channel, which) = match question {
        Question::Join { genesis } => {
            let genesis = BASE64_STANDARD
                .decode(genesis)
                .context("the genesis block is not base64")?;
            let join = |done| Errand::Join(genesis.into(), done);
            return Ok(Answer::Joined(run(errands, join).await??));
        }
        Question::Leave { channel } => {
            let leave = |done| Errand::Leave(ChannelId::from(channel.as_str()), done);
            run(errands, leave).await??;
            return Ok(Answer::Left(channel));
        }
        Question::List {} => {
            let channels = run(errands, Errand::Channels).await?;
            let names = channels
                .iter()
                .map(|served| served.channel.as_str().to_owned());
            return Ok(Answer::Channels(names.collect()));
        }
        Question::State {} => return state(errands).await,
        Question::Validity { channel, block } => return validity(errands, &channel, block).await,
        Question::Missing { channel, limit } => {
            return with_private_data(errands, &channel, move |data| {
                missing(&data, limit).map(Answer::Missing)
            })
            .await;
        }
        Question::PrivateList { channel, from } => {
            return with_private_data(errands, &channel, move |data| {
                super::private::list(&data, from).map(Answer::PrivateList)
            })
            .await;
        }
        Question::Purges { channel, from } => {
            return with_private_data(errands, &channel, move |data| {
                super::private::purges(&data, from).map(Answer::Purges)
            })
            .await;
        }
        Question::Purge {
            channel,
            block,
            transaction,
        } => {
            return with_private_data(errands, &channel, move |data| {
                let Purged { changed, left_out } =
                    data.purge(block, transaction).map_err(Error::msg)?;
                Ok(Answer::Purged { changed, left_out })
            })
            .await;
        }
        Question::Info { channel } => (channel, None),
        Question::Fetch { channel, which } => (channel, Some(which)),
    };
    let id = ChannelId::from(channel.as_str());
    let reader = run(errands, |done| Errand::Reader(id, done)).await??;
    let read = move || match which {
        None => info(&reader).map(Answer::Info),
        Some(which) => {
            fetch(&reader, which).map(|block| Answer::Block(BASE64_STANDARD.encode(block.bytes())))
        }
    };
    tokio::task::spawn_blocking(read)
        .await
        .context("reading the ledger broke off")?
}

async fn state(errands: &mpsc::Sender<Errand>) -> Result<Answer> {
    let vitals = run(errands, Errand::Vitals).await?;
    let view = vitals.view().await.context("the node is not up yet")?;
    Ok(Answer::State(Box::new(view)))
}

/// What organizations say of a block, or of the last ones.
async fn validity(
    errands: &mpsc::Sender<Errand>,
    channel: &str,
    block: Option<u64>,
) -> Result<Answer> {
    let id = ChannelId::from(channel);
    // Or else this says why it is not there.
    let blocks = run(errands, |done| Errand::Reader(id, done)).await??;
    let channels = run(errands, Errand::Channels).await?;
    let mut channels = channels.into_iter();
    let served = channels.find(|served| served.channel.as_str() == channel);
    let validity = served
        .context("the channel is being left")?
        .validity
        .clone();
    let validity = validity.context(
        "peers are not asked which transactions are valid: set validity.organizations to how many \
         organizations have to agree, and start the node again",
    )?;
    let report = move || validity.report(block, blocks.height());
    let report = tokio::task::spawn_blocking(report).await;
    let report = report.context("reading what peers say broke off")?;
    report.map(Answer::Validity).map_err(Error::msg)
}

/// Does something with the private data of a channel, which waits for the disk.
async fn with_private_data(
    errands: &mpsc::Sender<Errand>,
    channel: &str,
    what: impl FnOnce(PrivateData) -> Result<Answer> + Send + 'static,
) -> Result<Answer> {
    let id = ChannelId::from(channel);
    let data = run(errands, |done| Errand::PrivateData(id, done)).await??;
    tokio::task::spawn_blocking(move || what(data))
        .await
        .context("reading private data broke off")?
}

/// Has the owner of the node do something.
async fn run<T>(
    errands: &mpsc::Sender<Errand>,
    errand: impl FnOnce(oneshot::Sender<T>) -> Errand,
) -> Result<T> {
    const STOPPING: &str = "the node is stopping";
    let (done, result) = oneshot::channel();
    errands.send(errand(done)).await.ok().context(STOPPING)?;
    result.await.context(STOPPING)
}

fn missing(data: &PrivateData, limit: usize) -> Result<Missing> {
    let sets = data.missing(limit.min(MISSING_MAX)).map_err(Error::msg)?;
    let counts = data.backlog().map_err(Error::msg)?.total();
    let lacking = sets.into_iter().map(|set| Lacking {
        block: set.place.block,
        transaction: set.place.tx,
        namespace: set.place.namespace,
        collection: set.place.collection,
        was_tried: set.queue == Queue::Deprioritized,
        why: set.why.to_string(),
    });
    Ok(Missing {
        held: counts.held,
        to_be_fetched: counts.eligible,
        tried_in_vain: counts.deprioritized,
        not_for_us: counts.ineligible,
        missing: lacking.collect(),
    })
}

fn info(reader: &Reader) -> Result<Info> {
    let tip = reader.tip();
    let last = block(reader, tip.height().saturating_sub(1))?;
    let encoded = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    Ok(Info {
        height: tip.height(),
        current_block_hash: tip
            .last_hash()
            .map(|hash| encoded(hash.as_bytes()))
            .unwrap_or_default(),
        previous_block_hash: last
            .header()
            .map(|header| encoded(&header.previous_hash))
            .unwrap_or_default(),
        first_block: reader.first(),
    })
}

fn fetch(reader: &Reader, which: Which) -> Result<BlockView> {
    match which {
        Which::Newest => block(reader, reader.height().saturating_sub(1)),
        Which::Oldest => block(reader, 0),
        Which::Number(number) => block(reader, number),
        Which::Config => last_config(reader).map_err(Error::msg),
    }
}

fn block(reader: &Reader, number: u64) -> Result<BlockView> {
    reader.block(number)?.with_context(|| {
        let (first, height) = (reader.first(), reader.height());
        if number < first {
            format!("block {number} was pruned: the ledger has blocks from {first} on")
        } else {
            format!("there is no block {number}: the ledger has {height}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_is_ours_alone_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/admin.sock");
        let door = Door::open(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        let error = Door::open(&path).err().unwrap().to_string();
        assert!(error.contains("answers at"), "{error}");
        drop(door);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as after a kill");
        drop(Door::open(&path).unwrap());
        fs::write(&path, "mine").unwrap();
        let error = Door::open(&path).err().unwrap().to_string();
        assert!(error.contains("in the way"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn nonsense_is_answered_with_a_reason_and_a_stopping_node_says_so() {
        let (errands, owner) = mpsc::channel(1);
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move { attend(theirs, &errands).await });
        drop(owner);
        let mut ours = BufReader::new(ours);
        for (line, reason) in [
            ("nonsense\n", "not understood"),
            ("{\"do\":\"join\",\"genesis\":\"?\"}\n", "not base64"),
            ("{\"do\":\"list\"}\n", "stopping"),
        ] {
            ours.get_mut().write_all(line.as_bytes()).await.unwrap();
            let mut answer = String::new();
            ours.read_line(&mut answer).await.unwrap();
            let Answer::Refused(said) = serde_json::from_str(&answer).unwrap() else {
                panic!("{answer}")
            };
            assert!(said.contains(reason), "{said}");
        }
    }

    /// The peer that asks too much is cut off, with the reason, at the limit.
    #[tokio::test]
    async fn a_question_without_end_is_cut() {
        let (errands, _owner) = mpsc::channel(1);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let attending = tokio::spawn(async move { attend(theirs, &errands).await });
        let (mut reading, mut writing) = ours.into_split();
        let flood = async {
            let part = vec![b' '; 1 << 20];
            for _ in 0..(QUESTION_LEN_MAX >> 20) {
                writing.write_all(&part).await.unwrap();
            }
        };
        let mut answer = String::new();
        let (_, read) = tokio::join!(flood, reading.read_to_string(&mut answer));
        read.unwrap();
        attending.await.unwrap().unwrap();
        assert!(answer.contains("one line of at most"), "{answer}");
    }
}
