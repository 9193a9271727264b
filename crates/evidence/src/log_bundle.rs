//! A whole audit log in one ZIP: its entries and tiles as C2SP tlog-tiles lays them out, the checkpoint that signs them, and the key.
//!
//! Whoever has it proves offline that every record is as it was signed, and with an earlier checkpoint that nothing was taken back since.
//! A record that was changed or removed is named.

use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};

use crypto::ed25519::PublicKey;
use domain::Digest;
use serde::Serialize;
use serde_json::Value;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, System, ZipWriter};

use crate::bundle::BundleError;
use crate::checkpoint::Checkpoint;
use crate::container::{SealingWriter, comment_placeholder};
use crate::merkle;
use crate::note::{Note, NoteKey};
use crate::tile::{TILE_WIDTH, Tile, bundle_entries, tile_bytes, tile_hashes};
use crate::tree::Frontier;
use crate::verify::Files;

const KEY_FILE: &str = "keys/log.pem";
const VKEY_FILE: &str = "keys/log.vkey";
const CHECKPOINT: &str = "checkpoint";
const SINCE: &str = "checkpoint.since";
const FIXED_FILES: [(&str, &str); 2] = [
    ("VERIFY.md", include_str!("log_bundle_files/VERIFY.md")),
    ("verify.sh", include_str!("log_bundle_files/verify.sh")),
];
/// Largest tile or bundle of entries: 256 entries of 64 KiB.
const PART_BYTES_MAX: u64 = 256 * (64 * 1_024 + 2);

fn refused(file: impl Into<String>, problem: impl Into<String>) -> BundleError {
    BundleError::refused(file, problem)
}

fn entries_name(tile: &Tile) -> String {
    format!("tile/entries/{}", tile.place())
}

/// Writes a bundle while the log is read from its beginning, and refuses one that would not verify.
pub struct LogBundleWriter<W: Write> {
    zip: ZipWriter<StreamWriter<SealingWriter<W>>>,
    checkpoint: Checkpoint,
    frontier: Frontier,
    /// Hashes of each level's tile that is not full yet, and its place.
    open: Vec<(u64, Vec<Digest>)>,
}

impl<W: Write> LogBundleWriter<W> {
    /// Begins the bundle of the log that `key` signs. `since`: an earlier checkpoint that comes along.
    pub fn new(out: W, key: &PublicKey, note: &Note, since: Option<&Note>) -> Result<Self, BundleError> {
        let open =
            |name: &str, note: &Note| Checkpoint::open(note, key).map_err(|error| refused(name, error.to_string()));
        let checkpoint = open(CHECKPOINT, note)?;
        let mut zip = ZipWriter::new_stream(SealingWriter::new(out));
        zip.set_comment(comment_placeholder()).map_err(zip_error)?;
        let mut writer = Self { zip, checkpoint, frontier: Frontier::default(), open: Vec::new() };
        for (name, text) in FIXED_FILES {
            writer.file(name, text.as_bytes())?;
        }
        writer.file(KEY_FILE, key.to_pem().as_bytes())?;
        let vkey = Checkpoint::key(&writer.checkpoint.origin, *key);
        let vkey = vkey.map_err(|error| refused(VKEY_FILE, error.to_string()))?;
        writer.file(VKEY_FILE, format!("{vkey}\n").as_bytes())?;
        writer.file(CHECKPOINT, note.to_string().as_bytes())?;
        if let Some(since) = since {
            open(SINCE, since)?;
            writer.file(SINCE, since.to_string().as_bytes())?;
        }
        Ok(writer)
    }

    /// Which bundle of entries comes next; none at the end.
    pub fn next(&self) -> Option<Tile> {
        Tile::of(self.checkpoint.size, 0, self.frontier.size() / TILE_WIDTH)
            .filter(|_| self.frontier.size() < self.checkpoint.size)
    }

    /// Adds the next bundle of entries.
    pub fn entries(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        let Some(tile) = self.next() else { return Err(refused("tile/entries", "the log has no more entries")) };
        let name = entries_name(&tile);
        let entries = bundle_entries(bytes).filter(|entries| entries.len() == usize::from(tile.width));
        let entries = entries.ok_or_else(|| refused(&name, format!("is not {} whole entries", tile.width)))?;
        self.file(&name, bytes)?;
        for entry in entries {
            let leaf = merkle::leaf_hash(entry);
            self.frontier.push(leaf);
            self.hash(0, leaf)?;
        }
        Ok(())
    }

    fn hash(&mut self, level: u8, hash: Digest) -> Result<(), BundleError> {
        let at = usize::from(level);
        while self.open.len() <= at {
            self.open.push((0, Vec::new()));
        }
        let Some((index, hashes)) = self.open.get_mut(at) else { return Ok(()) };
        hashes.push(hash);
        if hashes.len() as u64 == TILE_WIDTH {
            let (place, full) = (*index, std::mem::take(hashes));
            *index += 1;
            self.tile(level, place, &full)?;
            self.hash(level + 1, merkle::root(&full))?;
        }
        Ok(())
    }

    fn tile(&mut self, level: u8, index: u64, hashes: &[Digest]) -> Result<(), BundleError> {
        let width = u16::try_from(hashes.len()).unwrap_or(u16::MAX);
        self.file(&Tile { level, index, width }.to_string(), &tile_bytes(hashes))
    }

    /// Ends the archive, if what was added is what the checkpoint signs.
    pub fn finish(mut self) -> Result<W, BundleError> {
        if self.frontier.size() != self.checkpoint.size {
            return Err(refused("tile/entries", format!("has only {} entries", self.frontier.size())));
        }
        if self.frontier.root() != self.checkpoint.root {
            return Err(refused(CHECKPOINT, "does not sign these entries"));
        }
        for (level, (index, hashes)) in std::mem::take(&mut self.open).into_iter().enumerate() {
            if !hashes.is_empty() {
                self.tile(u8::try_from(level).unwrap_or(u8::MAX), index, &hashes)?;
            }
        }
        let sealing = self.zip.finish().map_err(zip_error)?.into_inner();
        Ok(sealing.finish()?)
    }

    fn file(&mut self, name: &str, content: &[u8]) -> Result<(), BundleError> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .system(System::Unix)
            .unix_permissions(if name == "verify.sh" { 0o755 } else { 0o644 });
        self.zip.start_file(name, options).map_err(zip_error)?;
        Ok(self.zip.write_all(content)?)
    }
}

fn zip_error(error: zip::result::ZipError) -> BundleError {
    match error {
        zip::result::ZipError::Io(error) => BundleError::Io(error),
        other => refused("the ZIP container", other.to_string()),
    }
}

/// What is known before the bundle is opened.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The log key's fingerprint, by another way than the bundle.
    pub key: Option<Digest>,
    /// An earlier checkpoint of the same log, by another way than the bundle.
    pub since: Option<Note>,
    /// Witnesses of whom each must have signed the checkpoint.
    pub witnesses: Vec<NoteKey>,
}

/// What a log that verified holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Which log.
    pub origin: String,
    /// Records in it.
    pub size: u64,
    /// The root over them, in hex.
    pub root: Digest,
    /// The log key's fingerprint.
    pub key_fingerprint: Digest,
    /// Whether the caller knew the fingerprint beforehand. If not, compare it by another way.
    pub key_trusted: bool,
    /// Leaves of signed statements among the records.
    pub statements: u64,
    /// When the first record was written.
    pub first: Option<String>,
    /// When the last record was written.
    pub last: Option<String>,
    /// The sizes of the earlier checkpoints that it continues.
    pub continues: Vec<u64>,
    /// The witnesses that signed it, of those that the caller named.
    pub witnesses: Vec<String>,
}

/// Whether a bundle may have a file of this name.
fn is_in_layout(name: &str) -> bool {
    let fixed = [KEY_FILE, VKEY_FILE, CHECKPOINT, SINCE];
    if fixed.contains(&name) || FIXED_FILES.iter().any(|(fixed, _)| *fixed == name) {
        return true;
    }
    let place = name.strip_prefix("tile/").and_then(|rest| rest.split_once('/'));
    place.is_some_and(|(level, place)| Tile::parse(if level == "entries" { "0" } else { level }, place).is_some())
}

fn open_checkpoint(name: &str, note: &Note, key: &PublicKey) -> Result<Checkpoint, BundleError> {
    Checkpoint::open(note, key).map_err(|error| refused(name, error.to_string()))
}

/// Checks a bundle: every record against the signed checkpoint, and the checkpoint against what was known before.
pub fn verify_log_bundle(reader: impl Read + Seek, trust: &Trust) -> Result<LogReport, BundleError> {
    let mut files = Files::open(reader, is_in_layout)?;
    let pem = files.text(KEY_FILE)?;
    let key = PublicKey::from_pem(&pem).map_err(|error| refused(KEY_FILE, error.to_string()))?;
    if let Some(trusted) = trust.key.filter(|trusted| *trusted != key.fingerprint()) {
        return Err(refused(KEY_FILE, format!("is key {}, not {trusted}", key.fingerprint())));
    }
    let parse = |name: &str, text: String| text.parse::<Note>().map_err(|error| refused(name, error.to_string()));
    let note = parse(CHECKPOINT, files.text(CHECKPOINT)?)?;
    let checkpoint = open_checkpoint(CHECKPOINT, &note, &key)?;
    let mut witnesses = Vec::new();
    for witness in &trust.witnesses {
        note.verify(witness).map_err(|error| refused(CHECKPOINT, error.to_string()))?;
        witnesses.push(witness.name().to_owned());
    }
    let mut earlier = BTreeMap::new();
    let mut add = |name: &str, note: &Note| {
        let since = open_checkpoint(name, note, &key)?;
        if since.origin != checkpoint.origin {
            return Err(refused(name, format!("is of the log `{}`, not of `{}`", since.origin, checkpoint.origin)));
        }
        if since.size > checkpoint.size {
            let problem =
                format!("the log was cut: {} records were signed earlier, {} are left", since.size, checkpoint.size);
            return Err(refused(
                CHECKPOINT,
                format!("{problem}; the first that is missing is record {}", checkpoint.size),
            ));
        }
        earlier.insert((since.size, since.root), name.to_owned());
        Ok(())
    };
    if let Some(since) = &trust.since {
        add("the earlier checkpoint", since)?;
    }
    if files.has(SINCE) {
        let since = parse(SINCE, files.text(SINCE)?)?;
        add(SINCE, &since)?;
    }
    let mut report = LogReport {
        origin: checkpoint.origin.to_string(),
        size: checkpoint.size,
        root: checkpoint.root,
        key_fingerprint: key.fingerprint(),
        key_trusted: trust.key.is_some(),
        statements: 0,
        first: None,
        last: None,
        continues: earlier.keys().map(|(size, _)| *size).collect(),
        witnesses,
    };
    check_entries(&mut files, &checkpoint, earlier, &mut report)?;
    files.check_container()?;
    Ok(report)
}

/// The text of the checkpoint in a bundle, for use as an earlier one of the same log. Nothing is checked of it yet.
pub fn checkpoint_of(reader: impl Read + Seek) -> Result<String, BundleError> {
    Files::open(reader, is_in_layout)?.text(CHECKPOINT)
}

/// The root that leads a rewritten log's reader to the earlier checkpoint that it breaks.
fn check_earlier(earlier: &mut BTreeMap<(u64, Digest), String>, frontier: &Frontier) -> Result<(), BundleError> {
    while let Some(entry) = earlier.first_entry().filter(|entry| entry.key().0 == frontier.size()) {
        let ((size, root), name) = entry.remove_entry();
        if root != frontier.root() {
            return Err(refused(
                CHECKPOINT,
                format!(
                    "the log was rewritten: its first {size} records (0 to {}) are not those that {name} signs",
                    size.saturating_sub(1)
                ),
            ));
        }
    }
    Ok(())
}

fn check_entries<R: Read + Seek>(
    files: &mut Files<R>,
    checkpoint: &Checkpoint,
    mut earlier: BTreeMap<(u64, Digest), String>,
    report: &mut LogReport,
) -> Result<(), BundleError> {
    let mut frontier = Frontier::default();
    let mut roots = Vec::new();
    let mut broken_promise = check_earlier(&mut earlier, &frontier).err();
    for index in 0.. {
        let Some(tile) = Tile::of(checkpoint.size, 0, index) else { break };
        let name = entries_name(&tile);
        let bytes = files.read(&name)?;
        let entries =
            bundle_entries(&bytes).ok_or_else(|| refused(&name, "is cut short, or its lengths do not add up"))?;
        let leaves: Vec<Digest> = entries.iter().map(|entry| merkle::leaf_hash(entry)).collect();
        let hashes =
            tile_hashes(&files.read(&tile.to_string())?).filter(|hashes| hashes.len() == usize::from(tile.width));
        let hashes = hashes.ok_or_else(|| refused(tile.to_string(), format!("is not {} hashes", tile.width)))?;
        if leaves != hashes {
            return Err(refused(&name, difference(tile.start(), &leaves, &hashes)));
        }
        for (leaf, (seq, entry)) in leaves.into_iter().zip((tile.start()..).zip(entries)) {
            frontier.push(leaf);
            note_entry(report, seq, entry).map_err(|problem| refused(&name, problem))?;
            if broken_promise.is_none() {
                broken_promise = check_earlier(&mut earlier, &frontier).err();
            }
        }
        roots.push(merkle::root(&hashes));
    }
    if frontier.root() != checkpoint.root {
        return Err(locate(files, checkpoint, &roots)?);
    }
    check_upper_tiles(files, checkpoint, roots)?;
    broken_promise.map_or(Ok(()), Err)
}

/// Which record of a bundle of entries is not the one that its tile holds the hash of.
fn difference(start: u64, leaves: &[Digest], hashes: &[Digest]) -> String {
    let at = leaves.iter().zip(hashes).take_while(|(leaf, hash)| leaf == hash).count();
    let seq = start + at as u64;
    let (leaves, hashes) = (leaves.get(at..).unwrap_or_default(), hashes.get(at..).unwrap_or_default());
    if leaves.len() < hashes.len() && hashes.get(hashes.len() - leaves.len()..) == Some(leaves) {
        format!("record {seq} was removed")
    } else if leaves.len() > hashes.len() && leaves.get(leaves.len() - hashes.len()..) == Some(hashes) {
        format!("record {seq} was added")
    } else {
        format!("record {seq} was changed: it is not the one that was signed")
    }
}

/// Entries and leaf tiles fit together and not the signed root: which of them the tiles above speak against.
fn locate<R: Read + Seek>(
    files: &mut Files<R>,
    checkpoint: &Checkpoint,
    roots: &[Digest],
) -> Result<BundleError, BundleError> {
    for (index, root) in (0u64..).zip(roots) {
        let Some(above) = Tile::of(checkpoint.size, 1, index / TILE_WIDTH) else { break };
        let hashes = tile_hashes(&files.read(&above.to_string())?).unwrap_or_default();
        let place = usize::try_from(index % TILE_WIDTH).unwrap_or_default();
        if hashes.get(place).is_some_and(|hash| hash != root) {
            let (from, to) = (index * TILE_WIDTH, index * TILE_WIDTH + TILE_WIDTH - 1);
            return Ok(refused(
                Tile { level: 0, index, width: 256 }.to_string(),
                format!("a record from {from} to {to} was changed"),
            ));
        }
    }
    let from = checkpoint.size - checkpoint.size % TILE_WIDTH;
    let last = checkpoint.size.saturating_sub(1);
    Ok(refused(
        CHECKPOINT,
        format!("does not sign these records: one from {from} to {last}, or tiles with their records, were changed"),
    ))
}

fn check_upper_tiles<R: Read + Seek>(
    files: &mut Files<R>,
    checkpoint: &Checkpoint,
    roots: Vec<Digest>,
) -> Result<(), BundleError> {
    let (mut level, mut below) = (1u8, roots);
    while let Some(first) = Tile::of(checkpoint.size, level, 0) {
        let mut above = Vec::new();
        for index in first.index.. {
            let Some(tile) = Tile::of(checkpoint.size, level, index) else { break };
            let from = usize::try_from(tile.start()).unwrap_or(usize::MAX);
            let expected = below.get(from..from + usize::from(tile.width)).unwrap_or_default();
            if files.read(&tile.to_string())? != tile_bytes(expected) {
                return Err(refused(tile.to_string(), "is not made of the tiles below it"));
            }
            above.push(merkle::root(expected));
        }
        (level, below) = (level + 1, above);
    }
    Ok(())
}

/// What the report says of a record.
fn note_entry(report: &mut LogReport, seq: u64, entry: &[u8]) -> Result<(), String> {
    let parsed: Value = serde_json::from_slice(entry).map_err(|_| format!("record {seq} is no JSON"))?;
    if parsed.get("ev").is_some() {
        report.statements += 1;
        return Ok(());
    }
    if parsed.get("seq").and_then(Value::as_u64) != Some(seq) {
        return Err(format!("record {seq} says that it stands at another place"));
    }
    let time = parsed.get("t").and_then(Value::as_str).map(str::to_owned);
    if report.first.is_none() {
        report.first.clone_from(&time);
    }
    report.last = time.or(report.last.take());
    Ok(())
}

/// Largest file of this name.
pub(crate) fn largest(name: &str) -> Option<u64> {
    name.starts_with("tile/").then_some(PART_BYTES_MAX)
}
