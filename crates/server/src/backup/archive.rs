//! The file of a backup: a header, then sealed frames that hold a compressed sequence of named parts and end with a manifest.
//!
//! ```text
//! "cairn-backup/1\n"  u32 length  header (JSON)                    in the clear; holds the archive's key, sealed under the master key
//! u8 last  u32 length  frame (AES-256-GCM)                         repeated; exactly the final one has last = 1
//!   inside, raw deflate of: 'f' u16 length name | 'd' u32 length bytes | 'e' u64 size, SHA-256 | 'm' u32 length manifest
//! ```
//!
//! Invariants:
//! - each frame is bound to the header, to its number and to whether it is the last: none can be changed, moved, dropped or added;
//! - nothing is taken for whole before the manifest has been read and agrees with what came before it;
//! - the master key is not in it.

use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::Sha256;
use crypto::aead::{self, AeadKey};
use domain::{BackupId, Digest, Rng, TenantId, Timestamp};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};

use super::frame::{FrameReader, FrameWriter, exactly, length, number, size};

const MAGIC: &[u8] = b"cairn-backup/1\n";
const HEADER_BYTES_MAX: usize = 64 * 1_024;
/// Bytes of a part in one record.
const RECORD_BYTES: usize = 1_024 * 1_024;
const MANIFEST_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// What stands in the clear in front.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) id: BackupId,
    pub(super) taken_at: Timestamp,
    /// The program's version that made it.
    pub(super) version: String,
    /// `sqlite` or `postgresql`; either restores into either.
    pub(super) engine: String,
    pub(super) schema: store::Schema,
    /// The archive's key, sealed under the master key.
    key: String,
}

/// What stands at the end: what has to be there, so that a lack shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Tables and their rows, in the order in which they are restored.
    pub(super) tables: Vec<(String, u64)>,
    pub(super) artifacts: u64,
    /// Artifacts that were missing or damaged where the backup was taken, as `tenant/sha256`.
    pub(super) skipped: Vec<String>,
    pub(super) parts: u64,
    pub(super) bytes: u64,
    /// SHA-256 over name, size and SHA-256 of each part in order.
    pub(super) sha256: Option<Digest>,
}

/// The parts of a backup by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Lines of a table.
    Table(String),
    /// Collected bytes.
    Artifact(TenantId, Digest),
    /// A file of the data directory.
    File(PathBuf),
    /// The configuration without secrets.
    Configuration,
}

impl Part {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Table(table) => format!("tables/{table}"),
            Self::Artifact(tenant, digest) => format!("artifacts/{tenant}/{digest}"),
            Self::File(path) => format!("files/{}", path.display()),
            Self::Configuration => "configuration.toml".to_owned(),
        }
    }

    /// The part that a name stands for. A name that would lead out of its folder stands for none.
    fn parse(name: &str) -> Option<Self> {
        if name == "configuration.toml" {
            return Some(Self::Configuration);
        }
        let (kind, rest) = name.split_once('/')?;
        match kind {
            "tables" => {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                (!rest.is_empty() && rest.chars().all(plain)).then(|| Self::Table(rest.to_owned()))
            }
            "artifacts" => {
                let (tenant, digest) = rest.split_once('/')?;
                Some(Self::Artifact(tenant.parse().ok()?, digest.parse().ok()?))
            }
            "files" => {
                let path = Path::new(rest);
                let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
                (normal && !rest.is_empty() && !rest.contains('\0')).then(|| Self::File(path.to_owned()))
            }
            _ => None,
        }
    }
}

fn key_place(id: BackupId) -> Vec<u8> {
    [b"cairn/backup/v1/key".as_slice(), id.as_uuid().as_bytes()].concat()
}

/// A part that is being written or read.
struct Open {
    name: String,
    size: u64,
    sha256: Sha256,
}

impl Open {
    fn new(name: String) -> Self {
        Self { name, size: 0, sha256: Sha256::new() }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
    }
}

/// The parts so far, for the manifest.
#[derive(Default)]
struct Tally {
    parts: u64,
    bytes: u64,
    listing: Sha256,
}

impl Tally {
    /// Counts a part that ended; its size and digest.
    fn count(&mut self, open: Open) -> (u64, Digest) {
        let digest = open.sha256.finish();
        self.parts += 1;
        self.bytes += open.size;
        self.listing.update(&(open.name.len() as u64).to_be_bytes());
        self.listing.update(open.name.as_bytes());
        self.listing.update(&open.size.to_be_bytes());
        self.listing.update(&digest.0);
        (open.size, digest)
    }
}

/// Writes an archive.
pub(super) struct ArchiveWriter<W: Write> {
    out: DeflateEncoder<FrameWriter<W>>,
    open: Option<Open>,
    tally: Tally,
}

/// An archive that was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) manifest: Manifest,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// SHA-256 of the file.
    pub(super) sha256: Digest,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn new(
        out: W,
        (id, taken_at, engine, schema): (BackupId, Timestamp, &str, store::Schema),
        master: &AeadKey,
        rng: &Arc<dyn Rng>,
    ) -> anyhow::Result<Self> {
        let key = AeadKey::generate(&**rng);
        let sealed = aead::seal(master, &key_place(id), key.expose(), &**rng)?;
        let header = serde_json::to_vec(&Header {
            id,
            taken_at,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: engine.to_owned(),
            schema,
            key: STANDARD.encode(sealed),
        })?;
        let mut frames = FrameWriter::new(out, key, crypto::sha256(&header), Arc::clone(rng));
        frames.put(MAGIC)?;
        frames.put(&length(header.len())?)?;
        frames.put(&header)?;
        Ok(Self { out: DeflateEncoder::new(frames, Compression::fast()), open: None, tally: Tally::default() })
    }

    /// Begins a part; the one before ends.
    pub(super) fn begin(&mut self, part: &Part) -> io::Result<()> {
        self.end()?;
        let name = part.name();
        let length = u16::try_from(name.len()).map_err(io::Error::other)?;
        self.out.write_all(b"f")?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(name.as_bytes())?;
        self.open = Some(Open::new(name));
        Ok(())
    }

    /// Appends to the part that was begun.
    pub(super) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(RECORD_BYTES) {
            self.out.write_all(b"d")?;
            self.out.write_all(&length(piece.len())?)?;
            self.out.write_all(piece)?;
        }
        if let Some(open) = &mut self.open {
            open.update(bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let (size, digest) = self.tally.count(open);
        self.out.write_all(b"e")?;
        self.out.write_all(&size.to_be_bytes())?;
        self.out.write_all(&digest.0)
    }

    /// Bytes of parts so far.
    pub(super) fn bytes(&self) -> u64 {
        self.tally.bytes + self.open.as_ref().map_or(0, |open| open.size)
    }

    /// Writes the manifest and the last frame.
    pub(super) fn finish(mut self, mut manifest: Manifest) -> anyhow::Result<(W, Written)> {
        self.end()?;
        (manifest.parts, manifest.bytes) = (self.tally.parts, self.tally.bytes);
        manifest.sha256 = Some(self.tally.listing.finish());
        let json = serde_json::to_vec(&manifest)?;
        ensure!(json.len() <= MANIFEST_BYTES_MAX, "too many artifacts are missing to list them");
        self.out.write_all(b"m")?;
        self.out.write_all(&length(json.len())?)?;
        self.out.write_all(&json)?;
        let (out, bytes, sha256) = self.out.finish()?.finish()?;
        Ok((out, Written { manifest, bytes, sha256 }))
    }
}

/// What an archive says next.
#[derive(Debug)]
pub(super) enum Event {
    /// A part begins.
    Begin(Part),
    /// More of it.
    Data(Vec<u8>),
    /// It has ended and is as it was written.
    End,
}

/// Reads an archive, checking everything on the way.
pub(super) struct ArchiveReader<R: Read> {
    input: DeflateDecoder<FrameReader<R>>,
    open: Option<Open>,
    tally: Tally,
    manifest: Option<Manifest>,
    pub(super) header: Header,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the header and opens the archive's key with the master key.
    pub(super) fn new(mut file: R, master: &AeadKey) -> anyhow::Result<Self> {
        let mut magic = Vec::new();
        file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        ensure!(magic == MAGIC, "this is no backup that this version of cairn-server can read");
        let bytes = exactly(&mut file, 4)?;
        let bytes = exactly(&mut file, size(&bytes, HEADER_BYTES_MAX)?)?;
        let header: Header =
            serde_json::from_slice(&bytes).context("the backup is damaged: its header cannot be read")?;
        let sealed = STANDARD.decode(&header.key).context("the backup is damaged: its header holds no key")?;
        let key = aead::open(master, &key_place(header.id), &sealed).ok();
        let key = key.and_then(|key| <[u8; 32]>::try_from(key.expose()).ok()).context(
            "the master key does not open this backup: give the one of the installation that it was taken of; nothing was changed",
        )?;
        let frames = FrameReader::new(file, AeadKey::from_bytes(key), crypto::sha256(&bytes));
        Ok(Self { input: DeflateDecoder::new(frames), open: None, tally: Tally::default(), manifest: None, header })
    }

    /// What comes next; none at the end, which is there only when everything agreed.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Event>> {
        let tag = exactly(&mut self.input, 1)?;
        match (tag.as_slice(), self.open.take()) {
            (b"f", None) => {
                let length = exactly(&mut self.input, 2)?;
                let name = String::from_utf8(exactly(&mut self.input, size(&length, usize::from(u16::MAX))?)?)?;
                let part = Part::parse(&name)
                    .with_context(|| format!("the backup is damaged: it holds `{}`", name.escape_debug()))?;
                self.open = Some(Open::new(name));
                Ok(Some(Event::Begin(part)))
            }
            (b"d", Some(mut open)) => {
                let length = exactly(&mut self.input, 4)?;
                let data = exactly(&mut self.input, size(&length, RECORD_BYTES)?)?;
                open.update(&data);
                self.open = Some(open);
                Ok(Some(Event::Data(data)))
            }
            (b"e", Some(open)) => {
                let said = exactly(&mut self.input, 40)?;
                let name = open.name.clone();
                let (size, digest) = self.tally.count(open);
                let agrees = said.split_at_checked(8).is_some_and(|(s, d)| number(s) == size && d == digest.0);
                ensure!(agrees, "the backup is damaged: `{name}` is not what was written");
                Ok(Some(Event::End))
            }
            (b"m", None) => {
                let length = exactly(&mut self.input, 4)?;
                let json = exactly(&mut self.input, size(&length, MANIFEST_BYTES_MAX)?)?;
                let manifest: Manifest =
                    serde_json::from_slice(&json).context("the backup is damaged: its manifest cannot be read")?;
                // To the very end: only the last frame says that nothing was cut off.
                ensure!(self.input.read(&mut [0u8])? == 0, "the backup is damaged: something follows its manifest");
                let mut rest = Vec::new();
                self.input.get_mut().read_to_end(&mut rest)?;
                ensure!(rest.is_empty(), "the backup is damaged: something follows its manifest");
                let listing = std::mem::take(&mut self.tally.listing).finish();
                let agrees = manifest.parts == self.tally.parts
                    && manifest.bytes == self.tally.bytes
                    && manifest.sha256 == Some(listing);
                ensure!(agrees, "the backup is damaged: its parts are not those that its manifest lists");
                self.manifest = Some(manifest);
                Ok(None)
            }
            _ => bail!("the backup is damaged: its parts are in no order"),
        }
    }

    /// Bytes of parts so far.
    pub(super) fn bytes(&self) -> u64 {
        self.tally.bytes + self.open.as_ref().map_or(0, |open| open.size)
    }

    /// The manifest, once the end was reached.
    pub(super) fn manifest(self) -> anyhow::Result<Manifest> {
        self.manifest.context("the backup was not read to its end")
    }
}

/// Opens an archive's file.
pub(super) fn open(path: &Path, master: &AeadKey) -> anyhow::Result<ArchiveReader<BufReader<std::fs::File>>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read the backup `{}`", path.display()))?;
    ArchiveReader::new(BufReader::new(file), master)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn master() -> AeadKey {
        AeadKey::from_bytes([7; 32])
    }

    fn parts() -> Parts {
        let blob: Vec<u8> = (0..700_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        let tenant = TenantId::generate(&testkit::TestClock::default(), &testkit::TestRng::seeded(3));
        vec![
            (Part::Table("node".to_owned()), b"[\"id\"]\n[1]\n".to_vec()),
            (Part::Table("edge".to_owned()), Vec::new()),
            (Part::Artifact(tenant, crypto::sha256(&blob)), blob),
            (Part::File("tls/tls.crt".into()), b"pem".to_vec()),
            (Part::Configuration, b"[server]\n".to_vec()),
        ]
    }

    fn written() -> Vec<u8> {
        let rng: Arc<dyn Rng> = Arc::new(testkit::TestRng::seeded(1));
        let id = BackupId::generate(&testkit::TestClock::default(), &*rng);
        let mut writer =
            ArchiveWriter::new(Vec::new(), (id, TAKEN, "sqlite", store::Schema::known()), &master(), &rng).unwrap();
        for (part, bytes) in parts() {
            writer.begin(&part).unwrap();
            bytes.chunks(300_000).for_each(|piece| writer.data(piece).unwrap());
        }
        let manifest = Manifest { tables: vec![("node".to_owned(), 1)], ..Manifest::default() };
        let (bytes, written) = writer.finish(manifest).unwrap();
        assert_eq!((written.bytes, written.sha256), (bytes.len() as u64, crypto::sha256(&bytes)));
        bytes
    }

    type Parts = Vec<(Part, Vec<u8>)>;

    fn read(bytes: &[u8], master: &AeadKey) -> anyhow::Result<(Parts, Manifest)> {
        let mut reader = ArchiveReader::new(bytes, master)?;
        let mut parts = Parts::new();
        while let Some(event) = reader.next()? {
            match event {
                Event::Begin(part) => parts.push((part, Vec::new())),
                Event::Data(data) => parts.last_mut().unwrap().1.extend(data),
                Event::End => {}
            }
        }
        Ok((parts, reader.manifest()?))
    }

    #[test]
    fn what_goes_in_comes_out() {
        let (read, manifest) = read(&written(), &master()).unwrap();
        assert_eq!(read, parts());
        assert_eq!((manifest.parts, manifest.tables.len()), (5, 1));
    }

    #[test]
    fn attack_74_a_backup_opens_with_its_own_master_key_only() {
        let error = read(&written(), &AeadKey::from_bytes([8; 32])).unwrap_err();
        assert!(error.to_string().contains("master key does not open"), "{error}");
    }

    #[test]
    fn attack_74_a_backup_that_was_changed_cut_or_added_to_is_refused_wherever_it_was() {
        let whole = written();
        let step = whole.len() / 400;
        for at in (0..whole.len()).step_by(step).chain(0..64).chain(whole.len() - 64..whole.len()) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed, &master()).is_err(), "the byte {at} was changed");
            assert!(read(&whole[..at], &master()).is_err(), "it was cut at {at}");
        }
        let error = read(&[&whole[..], b"x"].concat(), &master()).unwrap_err();
        assert!(format!("{error:#}").contains("follows its end"), "{error:#}");
        let error = read(&whole[..whole.len() / 2], &master()).unwrap_err();
        assert!(format!("{error:#}").contains("incomplete"), "{error:#}");
    }

    #[test]
    fn frames_of_one_archive_fit_nowhere_else() {
        let (whole, frames) = (written(), frames(&written()));
        assert!(frames.len() > 3, "{frames:?}");
        let swapped =
            [&whole[..frames[0].0], &whole[frames[1].0..frames[1].1], &whole[frames[0].0..frames[0].1]].concat();
        let swapped = [&swapped[..], &whole[frames[1].1..]].concat();
        assert_eq!(swapped.len(), whole.len());
        assert!(format!("{:#}", read(&swapped, &master()).unwrap_err()).contains("frame 0 was changed"));
        let dropped = [&whole[..frames[1].0], &whole[frames[1].1..]].concat();
        assert!(format!("{:#}", read(&dropped, &master()).unwrap_err()).contains("frame 1 was changed"));
    }

    /// Where each frame begins and ends.
    fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut at = MAGIC.len() + 4 + size(&bytes[MAGIC.len()..MAGIC.len() + 4], usize::MAX).unwrap();
        let mut out = Vec::new();
        while at < bytes.len() {
            let end = at + 5 + size(&bytes[at + 1..at + 5], usize::MAX).unwrap();
            out.push((at, end));
            at = end;
        }
        out
    }

    #[test]
    fn attack_63_names_that_lead_elsewhere_are_no_parts() {
        for name in [
            "",
            "files/",
            "files/../x",
            "files//etc/passwd",
            "files/a/../../x",
            "/etc/passwd",
            "tables/",
            "tables/a/b",
            "tables/A",
            "artifacts/x/y",
            "other/x",
        ] {
            assert_eq!(Part::parse(name), None, "{name}");
        }
        for (part, _) in parts() {
            assert_eq!(Part::parse(&part.name()), Some(part));
        }
    }
}
