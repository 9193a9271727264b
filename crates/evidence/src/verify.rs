//! Checking a bundle offline. Nothing is unpacked to disk, and no name in the archive is ever used as a path.
//!
//! The order matters, so that the file that was changed is the one that is named: the listing, the manifest's signature, then every file
//! against the manifest, and only then what the files say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, Write};

use crypto::Sha256;
use crypto::ed25519::PublicKey;
use domain::{Digest, EvidenceId, TenantId, Timestamp};
use serde::Serialize;
use zip::read::{ArchiveOffset, Config, ZipReadOptions};
use zip::{ZipArchive, result::ZipError};

use crate::artifact::{blob_path, verify_artifact_digest};
use crate::bundle::{
    BundleError, FILE_BYTES_MAX, KEY_FILE, LOG_KEY_FILE, MANIFEST_BYTES_MAX, MANIFEST_FILES, MANIFEST_LIST,
    STATEMENT_BYTES_MAX, Summary, TOTAL_BYTES_MAX, earlier_key_file, manifest_list, signer,
};
use crate::checkpoint::{CheckpointError, LogProof, statement_entry};
use crate::container::{self, CONTAINER, Entry, copy_hashed};
use crate::dsse::{self, PAYLOAD_TYPE, SignedStatement, body};
use crate::statement::{BundleStatement, Input, Judged, Statement, StatementError, Verdict};

/// Files up to this size may be compressed as far as they go (a reply is at most 64 MiB); larger ones at most [`RATIO_MAX`] to one.
const RATIO_FREE_BYTES: u64 = 64 << 20;
const RATIO_MAX: u64 = 200;
/// Info-ZIP's extra field with another name for the entry, which some programs prefer and others do not know.
const UNICODE_PATH: u16 = 0x7075;

/// What a bundle that verified holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The evidence key's fingerprint.
    pub key_fingerprint: Digest,
    /// Whether the caller knew the fingerprint beforehand. If not, compare it by another way.
    pub key_trusted: bool,
    /// Fingerprints of earlier evidence keys that the bundle's own key vouches for, and that made some of its signatures.
    pub earlier_keys: Vec<Digest>,
    /// Whose evidence it is.
    pub tenant: TenantId,
    /// When it was exported.
    pub created: Timestamp,
    /// Files in the bundle.
    pub files: u64,
    /// Their sizes together.
    pub bytes: u64,
    /// Artifacts among them.
    pub artifacts: u64,
    /// Collections that judgements rest on and that are not in this bundle.
    pub inputs_elsewhere: u64,
    /// The fingerprint of the key that signs the audit log; none where no statement comes with a proof that it is in there.
    pub log_key_fingerprint: Option<Digest>,
    /// The statements, by evidence id.
    pub statements: Vec<StatementLine>,
}

/// One statement of a [`Report`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatementLine {
    /// Its id.
    pub evidence: EvidenceId,
    /// `collection`, `assessment`, `recording` or `access-review`.
    pub kind: &'static str,
    /// The scope, `framework control`, the finding's id, who was where, or `framework control: name of the review`.
    pub about: String,
    /// Of a collection: whether the scope was seen completely; of a recording: whether everything is recorded.
    pub complete: Option<bool>,
    /// Of an assessment: the verdict.
    pub result: Option<Verdict>,
    /// Its place in the tenant's audit log, where the bundle proves that it is there.
    pub log_index: Option<u64>,
    /// When it was collected from, recorded from, or judged.
    pub started: Timestamp,
    /// When it was collected to, recorded to, or judged.
    pub finished: Timestamp,
    /// Files that it is about.
    pub subjects: u64,
}

/// Checks a bundle. `trusted_fingerprint` is the evidence key's, as known by another way than the bundle; without it the bundle is only
/// known to be consistent with the key that it brings along.
pub fn verify_bundle(reader: impl Read + Seek, trusted_fingerprint: Option<Digest>) -> Result<Report, BundleError> {
    let mut files = Files::open(reader, is_in_layout)?;
    let (key, manifest) = check_manifest(&mut files, trusted_fingerprint)?;
    let digests: BTreeMap<String, Digest> =
        manifest.subjects.into_iter().map(|subject| (subject.name, subject.digest)).collect();
    check_files(&mut files, &digests)?;
    let keys = accepted_keys(&mut files, &digests, key)?;
    let mut report = Report {
        key_fingerprint: key.fingerprint(),
        key_trusted: trusted_fingerprint.is_some(),
        earlier_keys: keys.iter().skip(1).map(PublicKey::fingerprint).collect(),
        tenant: manifest.tenant,
        created: manifest.created,
        files: files.names.len() as u64,
        bytes: files.names.values().sum(),
        artifacts: 0,
        inputs_elsewhere: 0,
        log_key_fingerprint: None,
        statements: Vec::new(),
    };
    let named = check_statements(&mut files, &digests, &keys, &mut report)?;
    report.artifacts = check_artifacts(&mut files, &digests, &keys, &named)?;
    files.check_container()?;
    Ok(report)
}

fn at(file: &str, error: ZipError) -> BundleError {
    BundleError::refused(file, format!("cannot be unpacked: {error}"))
}

/// Names and sizes, before anything is unpacked. Returns the size of each file.
fn check_listing(entries: &[Entry], is_in_layout: fn(&str) -> bool) -> Result<BTreeMap<String, u64>, BundleError> {
    let (mut names, mut folded, mut total) = (BTreeMap::new(), BTreeSet::new(), 0u64);
    for entry in entries {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        let refuse = |problem: String| Err(BundleError::refused(name.clone(), problem));
        // Cairn writes no directories; a bundle that was packed again has some, and is refused in the end, after what is worse.
        if is_directory(entry, &name) {
            continue;
        }
        if name.starts_with('/')
            || name.contains(['\\', ':'])
            || name.split('/').any(|part| matches!(part, "" | "." | ".."))
        {
            return refuse("is not a plain relative path of a file".to_owned());
        }
        if !matches!(entry.mode & 0o170_000, 0 | 0o100_000) {
            return refuse("is a link, directory or device, not a file".to_owned());
        }
        if entry.flags & 1 != 0 || !matches!(entry.method, 0 | 8) {
            return refuse("is encrypted or compressed by another method than deflate".to_owned());
        }
        if entry.extras.contains(&UNICODE_PATH) {
            return refuse("has a second name in its metadata".to_owned());
        }
        if names.contains_key(&name) {
            return refuse("is there twice".to_owned());
        }
        if !folded.insert(name.to_lowercase()) {
            return refuse("differs from another file's name in case only".to_owned());
        }
        let max = if let Some(max) = crate::log_bundle::largest(&name) {
            max
        } else if name.starts_with("manifest.") {
            MANIFEST_BYTES_MAX
        } else if name.starts_with("ev/") {
            STATEMENT_BYTES_MAX * 2
        } else {
            FILE_BYTES_MAX
        };
        if entry.size > max {
            return refuse(format!("is larger than {max} bytes"));
        }
        if entry.size > RATIO_FREE_BYTES && entry.size / RATIO_MAX > entry.compressed {
            return refuse(format!("is compressed more than {RATIO_MAX} to 1"));
        }
        total = total.saturating_add(entry.size);
        if total > TOTAL_BYTES_MAX {
            return refuse(format!("makes the bundle larger than {TOTAL_BYTES_MAX} bytes"));
        }
        if !is_in_layout(&name) {
            return refuse("is not a file of a bundle".to_owned());
        }
        names.insert(name, entry.size);
    }
    Ok(names)
}

/// An empty entry for a directory of the layout.
fn is_directory(entry: &Entry, name: &str) -> bool {
    let is_shard = |part: &str| part.len() == 2 && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let Some(path) = name.strip_suffix('/').filter(|_| entry.size == 0) else { return false };
    match path.strip_prefix("blobs/sha256/") {
        Some(shards) => shards.split('/').count() <= 2 && shards.split('/').all(is_shard),
        None => matches!(path, "ev" | "keys" | "blobs" | "blobs/sha256"),
    }
}

/// Whether a bundle may have a file of this name.
fn is_in_layout(name: &str) -> bool {
    let fixed = ["README.txt", "VERIFY.md", "verify.sh", "verify-log.sh", KEY_FILE, LOG_KEY_FILE, MANIFEST_LIST];
    if fixed.contains(&name) || MANIFEST_FILES.contains(&name) || Summary::FILES.contains(&name) {
        return true;
    }
    if let Some(key) = name.strip_prefix("keys/").and_then(|file| file.strip_suffix(".pem")) {
        return key.parse::<Digest>().is_ok();
    }
    if let Some(file) = name.strip_prefix("ev/") {
        return file.split_once('.').is_some_and(|(id, suffix)| {
            id.parse::<EvidenceId>().is_ok() && matches!(suffix, "pae" | "sig" | "dsse.json" | "tlog-proof")
        });
    }
    let path = name.strip_suffix(".sha256").or_else(|| name.strip_suffix(".sig")).unwrap_or(name);
    blob_digest(path).is_some()
}

/// The digest in an artifact's path, where the path is an artifact's.
fn blob_digest(path: &str) -> Option<Digest> {
    let digest = path.strip_prefix("blobs/")?.rsplit('/').next()?.parse().ok()?;
    (blob_path(&digest) == path).then_some(digest)
}

/// The files of an archive whose listing was checked.
pub(crate) struct Files<R> {
    archive: ZipArchive<R>,
    names: BTreeMap<String, u64>,
}

impl<R: Read + Seek> Files<R> {
    /// Lists an archive and refuses it before anything is unpacked, unless every name is one of the layout.
    pub(crate) fn open(mut reader: R, is_in_layout: fn(&str) -> bool) -> Result<Self, BundleError> {
        let entries = container::list(&mut reader)?;
        let names = check_listing(&entries, is_in_layout)?;
        let archive = ZipArchive::with_config(Config { archive_offset: ArchiveOffset::Known(0) }, reader)
            .map_err(|error| at(CONTAINER, error))?;
        if archive.len() != entries.len() {
            return Err(BundleError::refused(CONTAINER, "lists other entries in another directory"));
        }
        Ok(Self { archive, names })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The container itself, when every file in it was found good.
    pub(crate) fn check_container(mut self) -> Result<(), BundleError> {
        self.archive.validate_header_consistency().map_err(|error| at(CONTAINER, error))?;
        container::check_seal(&mut self.archive.into_inner())
    }

    /// Unpacks a file into `to` and returns its digest. Stops after the listed size, which [`check_listing`] bounded; `zip` compares the
    /// CRC and the local header.
    fn unpack(&mut self, name: &str, to: &mut impl Write) -> Result<Digest, BundleError> {
        let Some(size) = self.names.get(name).copied() else { return Err(BundleError::refused(name, "is missing")) };
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        let mut file = self.archive.by_name_with_options(name, options).map_err(|error| at(name, error))?;
        let mut hash = Sha256::new();
        let read = copy_hashed(&mut file.by_ref().take(size + 1), &mut hash, to)
            .map_err(|error| BundleError::refused(name, format!("cannot be unpacked: {error}")))?;
        if read != size {
            return Err(BundleError::refused(name, "is of another size than the archive says"));
        }
        Ok(hash.finish())
    }

    pub(crate) fn read(&mut self, name: &str) -> Result<Vec<u8>, BundleError> {
        let mut bytes = Vec::new();
        self.unpack(name, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String, BundleError> {
        String::from_utf8(self.read(name)?).map_err(|_| BundleError::refused(name, "is not text"))
    }
}

/// The key and the signed manifest, or which of the five files about them is wrong.
fn check_manifest<R: Read + Seek>(
    files: &mut Files<R>,
    trusted: Option<Digest>,
) -> Result<(PublicKey, BundleStatement), BundleError> {
    let [json_file, pae_file, sig_file] = MANIFEST_FILES;
    let pem = files.text(KEY_FILE)?;
    let (json, pae, sig) = (files.read(json_file)?, files.read(pae_file)?, files.read(sig_file)?);
    let key = PublicKey::from_pem(&pem).map_err(|error| BundleError::refused(KEY_FILE, error.to_string()))?;
    if key.to_pem() != pem {
        return Err(BundleError::refused(KEY_FILE, "is not the PEM file of one Ed25519 public key"));
    }
    if let Some(trusted) = trusted.filter(|trusted| *trusted != key.fingerprint()) {
        return Err(BundleError::refused(KEY_FILE, format!("is key {}, not {trusted}", key.fingerprint())));
    }
    let from_json = dsse::pae(PAYLOAD_TYPE, &json);
    let is_signed = |bytes: &[u8]| key.verify(bytes, &sig).is_ok();
    match (is_signed(&pae), is_signed(&from_json)) {
        (true, true) => {}
        (true, false) => return Err(BundleError::refused(json_file, "is not the manifest that `manifest.pae` signs")),
        (false, true) => return Err(BundleError::refused(pae_file, "is not the signed encoding of `manifest.json`")),
        // Neither: the two bear each other out or not, and the manifest, though not proved, says which key it was made with.
        (false, false) if pae != from_json => {
            return Err(BundleError::refused(
                pae_file,
                "its signature does not verify, and it differs from `manifest.json`",
            ));
        }
        (false, false) => {
            let listed = body(&pae).and_then(|body| Statement::from_json(body).ok());
            let is_other_key = matches!(listed, Some(Statement::Bundle(it))
                if it.subjects.iter().any(|subject| subject.name == KEY_FILE && subject.digest != crypto::sha256(pem.as_bytes())));
            return Err(if is_other_key {
                BundleError::refused(KEY_FILE, "is not the key that the bundle was written with")
            } else {
                BundleError::refused(sig_file, "is not a signature of `manifest.pae` by `keys/evidence.pem`")
            });
        }
    }
    match dsse::verify(&pae, &sig, &key) {
        Ok(Statement::Bundle(manifest)) => Ok((key, manifest)),
        Ok(_) => Err(BundleError::refused(pae_file, "is a statement about something else than a bundle")),
        Err(error) => Err(BundleError::refused(pae_file, error.to_string())),
    }
}

/// The bundle's own key, and the earlier ones that it vouches for by listing them: each in a file that is named by its fingerprint. The
/// log's key signs checkpoints and no evidence.
fn accepted_keys<R: Read + Seek>(
    files: &mut Files<R>,
    digests: &BTreeMap<String, Digest>,
    own: PublicKey,
) -> Result<Vec<PublicKey>, BundleError> {
    let mut keys = vec![own];
    let is_earlier = |name: &&String| name.starts_with("keys/") && ![KEY_FILE, LOG_KEY_FILE].contains(&name.as_str());
    for name in digests.keys().filter(is_earlier) {
        let pem = files.text(name)?;
        let key = PublicKey::from_pem(&pem).ok().filter(|key| key.to_pem() == pem && earlier_key_file(key) == *name);
        keys.push(
            key.ok_or_else(|| BundleError::refused(name, "is not the PEM file of the Ed25519 key that its name says"))?,
        );
    }
    Ok(keys)
}

/// Every file is in the manifest, and the other way round, with the digest that the manifest gives.
fn check_files<R: Read + Seek>(files: &mut Files<R>, digests: &BTreeMap<String, Digest>) -> Result<(), BundleError> {
    if let Some(extra) =
        files.names.keys().find(|name| !digests.contains_key(*name) && !MANIFEST_FILES.contains(&name.as_str()))
    {
        return Err(BundleError::refused(extra, "is not in the manifest"));
    }
    for (name, digest) in digests {
        if files.unpack(name, &mut std::io::sink())? != *digest {
            return Err(BundleError::refused(name, "was changed: its SHA-256 is not the one in the manifest"));
        }
    }
    if files.text(MANIFEST_LIST)? != manifest_list(digests) {
        return Err(BundleError::refused(MANIFEST_LIST, "lists other files than the manifest"));
    }
    if digests.keys().filter(|name| Summary::FILES.contains(&name.as_str())).count() != 1 {
        return Err(BundleError::refused(
            "finding.json",
            "a bundle has one finding.json, control.json, framework.json, recording.json or statement.json",
        ));
    }
    Ok(())
}

/// Every statement's signature, place, tenant and subjects; returns the artifacts that they name.
fn check_statements<R: Read + Seek>(
    files: &mut Files<R>,
    digests: &BTreeMap<String, Digest>,
    keys: &[PublicKey],
    report: &mut Report,
) -> Result<BTreeSet<String>, BundleError> {
    let ids: BTreeSet<&str> =
        digests.keys().filter_map(|name| name.strip_prefix("ev/")?.split_once('.')).map(|(id, _)| id).collect();
    let mut named = BTreeSet::new();
    for id in ids {
        let path = format!("ev/{id}.pae");
        let refuse = |problem: &str| BundleError::refused(&path, problem);
        let (pae, sig) = (files.read(&path)?, files.read(&format!("ev/{id}.sig"))?);
        let key = signer(keys, &pae, &sig);
        let refused = |error: StatementError| refuse(&error.to_string());
        let sig = sig.try_into().map_err(|_| refused(StatementError::Signature))?;
        let signed = SignedStatement::stored(pae, sig, &key).map_err(refused)?;
        let statement = signed.statement().map_err(refused)?;
        let dsse_file = format!("ev/{id}.dsse.json");
        if files.read(&dsse_file)? != signed.envelope() {
            return Err(BundleError::refused(dsse_file, "is not the envelope of the signed statement beside it"));
        }
        let rests_on = |inputs: &[Input], report: &mut Report| {
            for input in inputs {
                match digests.get(&format!("ev/{}.pae", input.evidence)) {
                    Some(digest) if *digest == input.pae_sha256 => {}
                    Some(_) => {
                        return Err(refuse(&format!("rests on another statement than `ev/{}.pae`", input.evidence)));
                    }
                    None => report.inputs_elsewhere += 1,
                }
            }
            Ok(())
        };
        let (tenant, mut line, subjects) = match statement {
            Statement::Collection(it) => {
                rests_on(
                    it.since.as_ref().map(|since| std::slice::from_ref(&since.statement)).unwrap_or_default(),
                    report,
                )?;
                let line = StatementLine {
                    evidence: it.evidence,
                    kind: "collection",
                    about: it.scope.to_string(),
                    complete: Some(it.coverage.may_close()),
                    result: None,
                    log_index: None,
                    started: it.times.started,
                    finished: it.times.finished,
                    subjects: it.subjects.len() as u64,
                };
                (it.tenant, line, it.subjects)
            }
            Statement::Assessment(it) => {
                rests_on(&it.inputs, report)?;
                let line = StatementLine {
                    evidence: it.evidence,
                    kind: "assessment",
                    about: match it.judged {
                        Judged::Control { framework, control } => format!("{framework} {control}"),
                        Judged::Finding { finding, .. } => finding.to_string(),
                    },
                    complete: None,
                    result: Some(it.result),
                    log_index: None,
                    started: it.evaluated_at,
                    finished: it.evaluated_at,
                    subjects: it.subjects.len() as u64,
                };
                (it.tenant, line, it.subjects)
            }
            Statement::Recording(it) => {
                let line = StatementLine {
                    evidence: it.evidence,
                    kind: "recording",
                    about: format!("{} at {}", it.user_name, it.destination_name),
                    complete: Some(it.complete),
                    result: None,
                    log_index: None,
                    started: it.started,
                    finished: it.finished,
                    subjects: it.subjects.len() as u64,
                };
                (it.tenant, line, it.subjects)
            }
            Statement::Review(it) => {
                let line = StatementLine {
                    evidence: it.evidence,
                    kind: "access-review",
                    about: format!("{} {}: {}", it.framework, it.control, it.name),
                    complete: None,
                    result: None,
                    log_index: None,
                    started: it.started,
                    finished: it.finished,
                    subjects: it.subjects.len() as u64,
                };
                (it.tenant, line, it.subjects)
            }
            Statement::Bundle(_) => return Err(refuse("a bundle holds no statement about bundles")),
        };
        if line.evidence.to_string() != id {
            return Err(refuse("is the statement of another evidence id than its name says"));
        }
        if tenant != report.tenant {
            return Err(refuse("belongs to another tenant than the bundle"));
        }
        line.log_index = check_logged(files, &line, &signed.digest(), report)?;
        for subject in subjects {
            let is_elsewhere = subject.name.starts_with("ev/") && !digests.contains_key(&subject.name);
            if !is_elsewhere && digests.get(&subject.name) != Some(&subject.digest) {
                return Err(BundleError::refused(&subject.name, format!("is not in the bundle as `{path}` names it")));
            }
            named.insert(subject.name);
        }
        report.statements.push(line);
    }
    Ok(named)
}

/// A statement's place in the audit log, where the bundle has a proof of it.
fn check_logged<R: Read + Seek>(
    files: &mut Files<R>,
    line: &StatementLine,
    pae: &Digest,
    report: &mut Report,
) -> Result<Option<u64>, BundleError> {
    let path = format!("ev/{}.tlog-proof", line.evidence);
    if !files.has(&path) {
        return Ok(None);
    }
    let refuse = |problem: String| BundleError::refused(&path, problem);
    let key = PublicKey::from_pem(&files.text(LOG_KEY_FILE)?);
    let key = key.map_err(|error| BundleError::refused(LOG_KEY_FILE, error.to_string()))?;
    let proof: LogProof = files.text(&path)?.parse().map_err(|error: CheckpointError| refuse(error.to_string()))?;
    let checkpoint =
        proof.verify(&statement_entry(line.evidence, pae), &key).map_err(|error| refuse(error.to_string()))?;
    if !checkpoint.origin.is_of(report.tenant) {
        return Err(refuse("is of another tenant's log".to_owned()));
    }
    report.log_key_fingerprint = Some(key.fingerprint());
    Ok(Some(proof.index))
}

/// Every artifact: its name, digest file and signature belong to its bytes, and a statement names it. Returns how many there are.
fn check_artifacts<R: Read + Seek>(
    files: &mut Files<R>,
    digests: &BTreeMap<String, Digest>,
    keys: &[PublicKey],
    named: &BTreeSet<String>,
) -> Result<u64, BundleError> {
    let mut count = 0;
    for (name, digest) in digests.iter().filter(|(name, _)| name.starts_with("blobs/")) {
        let path = name.strip_suffix(".sha256").or_else(|| name.strip_suffix(".sig")).unwrap_or(name);
        if path != name {
            if !digests.contains_key(path) {
                return Err(BundleError::refused(name, "has no artifact beside it"));
            }
            continue;
        }
        if blob_digest(name) != Some(*digest) {
            return Err(BundleError::refused(name, "its SHA-256 is not its name"));
        }
        let digest_file = format!("{name}.sha256");
        if files.read(&digest_file)? != digest.as_bytes() {
            return Err(BundleError::refused(digest_file, "is not the digest of the artifact beside it"));
        }
        let sig_file = format!("{name}.sig");
        let sig = files.read(&sig_file)?;
        verify_artifact_digest(digest, &sig, &signer(keys, digest.as_bytes(), &sig)).map_err(|_| {
            BundleError::refused(sig_file, "is not a signature of the artifact's digest by a key of the bundle")
        })?;
        if !named.contains(name) {
            return Err(BundleError::refused(name, "no statement in the bundle names it"));
        }
        count += 1;
    }
    Ok(count)
}
