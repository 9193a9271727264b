//! The audit log as something to carry away and to verify: checkpoints, the whole log in one file, and its check without any server.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crypto::ed25519::PublicKey;
use domain::Digest;
use evidence::BundleError;
use evidence::checkpoint::Checkpoint;
use evidence::log_bundle::{LogBundleWriter, Trust, verify_log_bundle};
use evidence::note::{Note, NoteKey};
use evidence::tree;

use crate::api::{Api, Context};
use crate::config::{Draft, Environment};
use crate::doc::Doc;
use crate::download;
use crate::failure::{Exit, Failure, Result};
use crate::log_memory::Memory;
use crate::output::{Output, data, warn};

/// Largest checkpoint or bundle of entries that a server may answer with, in bytes.
const PART_BYTES_MAX: usize = 32 << 20;

fn not_verified(message: impl Into<String>) -> Failure {
    Failure::new(message).exit(Exit::NotVerified)
}

async fn bytes(api: &Api, parts: &[&str], query: &[(&str, Option<&str>)]) -> Result<Vec<u8>> {
    let mut stream = api.stream(parts, query).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.chunk().await? {
        if bytes.len() + chunk.len() > PART_BYTES_MAX {
            return Err(Failure::new("the server's answer is larger than 32 MiB"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A log's newest checkpoint, verified with its key and against what was seen of the log before.
pub(crate) struct Head {
    pub(crate) key: PublicKey,
    pub(crate) note: Note,
    pub(crate) checkpoint: Checkpoint,
}

impl Head {
    /// Asks for it, and remembers it.
    pub(crate) async fn fetch(api: &Api, home: &Path, pinned: Option<Digest>) -> Result<Self> {
        let log = api.get(&["log"]).await?;
        let odd = |what: &str| not_verified(format!("the server's {what} is not one of a log"));
        let key = PublicKey::from_pem(log.text("pem")).map_err(|_| odd("key"))?;
        let origin = log.text("origin").to_owned();
        let mut memory = Memory::load(home)?;
        match pinned {
            Some(pinned) if pinned != key.fingerprint() => {
                return Err(not_verified(format!("the log's key is {}, not {pinned}", key.fingerprint())));
            }
            Some(_) => {}
            None => memory.check_key(&origin, key.fingerprint())?,
        }
        let text = String::from_utf8(bytes(api, &["log", "checkpoint"], &[]).await?).map_err(|_| odd("checkpoint"))?;
        let note: Note = text.parse().map_err(|e| not_verified(format!("the server's checkpoint: {e}")))?;
        let checkpoint =
            Checkpoint::open(&note, &key).map_err(|e| not_verified(format!("the server's checkpoint: {e}")))?;
        if checkpoint.origin.as_str() != origin {
            return Err(odd("checkpoint"));
        }
        let head = Self { key, note, checkpoint };
        let seen = memory.of(&origin).filter(|seen| seen.key == key.fingerprint());
        if let Some(old) = seen.and_then(|seen| Checkpoint::of(&seen.note()?).ok()) {
            head.check_continues(api, &old).await?;
        }
        memory.keep(home, key.fingerprint(), &head.checkpoint, &head.note)?;
        Ok(head)
    }

    /// That the log is the continuation of an earlier checkpoint.
    async fn check_continues(&self, api: &Api, old: &Checkpoint) -> Result {
        let (from, to) = (old.size, self.checkpoint.size);
        if from > to {
            return Err(not_verified(format!(
                "THE LOG WAS CUT: {from} records were signed earlier, {to} are left; the first that is missing is record {to}"
            )));
        }
        let query = [("from", Some(from.to_string())), ("to", Some(to.to_string()))];
        let query: Vec<(&str, Option<&str>)> = query.iter().map(|(name, value)| (*name, value.as_deref())).collect();
        let proof = api.get_with(&["log", "consistency"], &query).await?;
        let proof: Option<wire::log::Consistency> = proof.parse().ok();
        let hashes =
            proof.and_then(|proof| proof.hashes.iter().map(|hash| hash.parse().ok()).collect::<Option<Vec<Digest>>>());
        tree::verify_consistency(from, &old.root, to, &self.checkpoint.root, &hashes.unwrap_or_default()).map_err(
            |_| {
                not_verified(format!(
                    "THE LOG WAS REWRITTEN: its first {from} records are not those that were signed earlier"
                ))
                .hint("keep the earlier checkpoint, and compare the log with an export that you have")
            },
        )
    }
}

/// `checkpoint`.
pub(crate) async fn checkpoint(
    cx: &Context,
    api: &Api,
    pinned: Option<Digest>,
    to: Option<&Path>,
    force: bool,
) -> Result {
    let head = Head::fetch(api, cx.home()?, pinned).await?;
    let text = head.note.to_string();
    let Some(path) = to else { return data(text.as_bytes()) };
    write(path, force, |file| file.write_all(text.as_bytes()))?;
    let (size, key) = (head.checkpoint.size, head.key.fingerprint());
    cx.out.say(&format!("wrote {}: {size} records, signed by key {key}", path.display()));
    Ok(())
}

fn write(path: &Path, force: bool, fill: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>) -> Result {
    crate::config::replace(path, fill, force).map_err(|e| download::failed(path, e))
}

/// `export` of the whole log: reads it as any witness would, and keeps it only if it verifies.
pub(crate) async fn export(
    cx: &Context,
    api: &Api,
    pinned: Option<Digest>,
    since: Option<&Path>,
    to: &Path,
    force: bool,
) -> Result {
    download::check(to, force)?;
    let since = since.map(read_checkpoint).transpose()?;
    let head = Head::fetch(api, cx.home()?, pinned).await?;
    let draft = Draft::create(to).map_err(|e| download::failed(to, e))?;
    let file = std::io::BufWriter::new(draft.file.try_clone().map_err(|e| download::failed(to, e))?);
    let refused = |error: BundleError| match error {
        BundleError::Io(e) => download::failed(to, e),
        error @ BundleError::Refused { .. } => not_verified(format!("the server's log does not verify: {error}"))
            .hint("`cairn audit verify --server` says which records do not fit"),
    };
    let mut writer = LogBundleWriter::new(file, &head.key, &head.note, since.as_ref()).map_err(refused)?;
    while let Some(tile) = writer.next() {
        let place = tile.place();
        let parts: Vec<&str> = ["log", "tile", "entries"].into_iter().chain(place.split('/')).collect();
        writer.entries(&bytes(api, &parts, &[]).await?).map_err(refused)?;
    }
    let mut file = writer.finish().map_err(refused)?;
    file.flush().map_err(|e| download::failed(to, e))?;
    drop(file);
    draft.keep(to, force).map_err(|e| download::failed(to, e))?;
    let (size, path, key) = (head.checkpoint.size, to.display(), head.key.fingerprint());
    cx.out.say(&format!("wrote {path} ({size} records); check it: cairn audit verify {path} --key-fingerprint {key}"));
    Ok(())
}

/// `export` of records for another system.
pub(crate) async fn export_lines(api: &Api, format: &str, to: &Path, force: bool) -> Result {
    let mut records = 0;
    let count = |bytes: &[u8]| records += bytes.split(|byte| *byte == b'\n').skip(1).count();
    download::download(api, &["audit-export"], &[("format", Some(format))], (to, force), count).await?;
    api.out.say(&format!("wrote {} ({records} records)", to.display()));
    Ok(())
}

/// What `verify` is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Verify {
    /// The exported log
    #[arg(required_unless_present = "on_server")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) told: Told,
    /// Have the server compare its database with what was signed, instead of a file
    #[arg(long = "on-server", conflicts_with_all = ["file", "since", "witnesses"])]
    pub(crate) on_server: bool,
    /// With --on-server: the platform's own log instead of a tenant's
    #[arg(long, requires = "on_server")]
    pub(crate) platform: bool,
}

/// What is known before a file is opened.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Told {
    /// An earlier checkpoint (or export) of the same log: fails if anything was changed or removed since
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// The SHA-256 of the log's key [default: the one that was seen first]
    #[arg(long = "key-fingerprint", value_name = "SHA256", value_parser = crate::trust::parse_fingerprint)]
    pub(crate) key: Option<Digest>,
    /// A witness that must have signed the checkpoint, as `NAME+ID+KEY`
    #[arg(long = "witness", value_name = "VKEY")]
    witnesses: Vec<NoteKey>,
}

fn read_checkpoint(path: &Path) -> Result<Note> {
    let bytes = std::fs::read(path).map_err(|e| Failure::file("read", path, e))?;
    let text = if bytes.starts_with(b"PK\x03\x04") {
        let file = std::fs::File::open(path).map_err(|e| Failure::file("read", path, e))?;
        let reader = std::io::BufReader::new(file);
        evidence::log_bundle::checkpoint_of(reader).map_err(|e| Failure::file("understand", path, e))?
    } else {
        String::from_utf8(bytes).map_err(|e| Failure::file("understand", path, e))?
    };
    text.parse().map_err(|e| Failure::file("understand", path, e).hint("give a file of `cairn audit checkpoint -o`"))
}

/// `verify` of a file, which needs no server.
pub(crate) fn verify(out: Output, environment: &Environment, told: &Told, path: &Path) -> Result {
    let since = told.since.as_deref().map(read_checkpoint).transpose()?;
    let trust = Trust { key: told.key, since, witnesses: told.witnesses.clone() };
    let file = std::fs::File::open(path).map_err(|e| Failure::file("read", path, e))?;
    let mut report = verify_log_bundle(std::io::BufReader::new(file), &trust).map_err(|error| match error {
        BundleError::Io(e) => Failure::file("read", path, e),
        refused @ BundleError::Refused { .. } => {
            not_verified(format!("`{}` does not verify: {refused}", path.display()))
                .hint("do not rely on any record of this log; ask for it again, and keep this file")
        }
    })?;
    let memory = environment.home.as_deref().map(Memory::load).transpose()?.unwrap_or_default();
    if told.key.is_none() {
        memory.check_key(&report.origin, report.key_fingerprint)?;
        report.key_trusted = memory.of(&report.origin).is_some();
    }
    let shown = serde_json::to_string(&report).and_then(|text| serde_json::from_str::<Doc>(&text));
    out.one(&shown.map_err(|e| Failure::new(format!("cannot write the report: {e}")))?)?;
    if report.key_trusted {
        out.say(&format!("verified: {} records are as they were signed, by the key that is known", report.size));
    } else {
        out.say(&format!("verified: {} records are as they were signed", report.size));
        warn(
            "who signed is not checked: compare key_fingerprint with the administrator's, or give it as --key-fingerprint",
        );
    }
    Ok(())
}

/// `verify --on-server`: has the database compared with what was signed.
pub(crate) async fn verify_on_server(cx: &Context, api: &Api, pinned: Option<Digest>) -> Result {
    let head = Head::fetch(api, cx.home()?, pinned).await;
    let (mut from, mut records, mut faults) = (0u64, 0u64, Vec::new());
    loop {
        let start = from.to_string();
        let part = api.get_with(&["log", "verify"], &[("from", Some(&start))]).await?;
        let part: wire::log::LogVerification =
            part.parse().map_err(|_| Failure::new("the answer is not one of a Cairn server of this version"))?;
        records += part.records;
        faults.extend(part.faults);
        match part.next {
            Some(next) if next > from && faults.is_empty() => from = next,
            _ => break,
        }
    }
    if let Some(first) = faults.first() {
        let said = |fault: &wire::log::LogFault| match fault.seq {
            Some(seq) => format!("record {seq}: {}", fault.problem),
            None => fault.problem.clone(),
        };
        for fault in &faults {
            data(format!("{}\n", said(fault).escape_debug()).as_bytes())?;
        }
        return Err(not_verified(format!("the log does not verify: {}", said(first)))
            .hint("keep the database as it is, and compare it with a backup or an export"));
    }
    head?;
    cx.out.say(&format!("verified: {records} records in the database are as they were signed"));
    Ok(())
}
