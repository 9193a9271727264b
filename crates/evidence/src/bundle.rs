//! Writing a bundle: one ZIP that an auditor checks with `openssl` alone. [`crate::verify`] reads it.
//!
//! Every file is covered by a signature: `manifest.json` is an in-toto statement about all files but the manifest's own
//! (`manifest.pae` is its signed encoding), artifacts and statements carry their own signatures besides.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use crypto::Sha256;
use crypto::ed25519::{PublicKey, SigningKey};
use domain::{Digest, TenantId, Timestamp};
use serde_json::Value;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, System, ZipWriter};

use crate::artifact::{blob_path, verify_artifact_digest};
use crate::checkpoint::{LogProof, statement_entry};
use crate::container::{CONTAINER, ENTRIES_MAX, SealingWriter, comment_placeholder, copy_hashed};
use crate::dsse::{SignedStatement, sign, verify};
use crate::statement::{BundleStatement, Program, Statement, Subject};

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
/// Largest sum of all files, in bytes.
pub const TOTAL_BYTES_MAX: u64 = 8 << 30;
/// Largest statement, in bytes.
pub const STATEMENT_BYTES_MAX: u64 = 16 << 20;
/// Largest manifest, in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;

pub(crate) const KEY_FILE: &str = "keys/evidence.pem";
/// Keys that signed before the one in [`KEY_FILE`] took over, one file each, named by its fingerprint.
pub(crate) fn earlier_key_file(key: &PublicKey) -> String {
    format!("keys/{}.pem", key.fingerprint())
}

pub(crate) const LOG_KEY_FILE: &str = "keys/log.pem";
pub(crate) const MANIFEST_LIST: &str = "manifest.sha256";
/// The files that the manifest cannot list: itself, its encoding and its signature.
pub(crate) const MANIFEST_FILES: [&str; 3] = ["manifest.json", "manifest.pae", "manifest.sig"];
const FIXED_FILES: [(&str, &str); 4] = [
    ("README.txt", include_str!("bundle_files/README.txt")),
    ("verify-log.sh", include_str!("bundle_files/verify-log.sh")),
    ("VERIFY.md", include_str!("bundle_files/VERIFY.md")),
    ("verify.sh", include_str!("bundle_files/verify.sh")),
];

/// Why a bundle could not be written or was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Reading or writing failed.
    #[error("the bundle cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// A file of the bundle, or the ZIP container itself, is not as it must be.
    #[error("`{}`: {problem}", .file.escape_debug())]
    Refused {
        /// The file's path in the bundle.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl BundleError {
    pub(crate) fn refused(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Refused { file: file.into(), problem: problem.into() }
    }

    /// The file that is to blame, where one is.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Io(_) => None,
            Self::Refused { file, .. } => Some(file),
        }
    }
}

/// What a bundle is about, for people: written as indented JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Summary {
    /// `finding.json`.
    Finding(Value),
    /// `control.json`.
    Control(Value),
    /// `framework.json`.
    Framework(Value),
    /// `recording.json`.
    Recording(Value),
    /// `statement.json`.
    Statement(Value),
}

impl Summary {
    /// The names that a summary may have.
    pub(crate) const FILES: [&str; 5] =
        ["finding.json", "control.json", "framework.json", "recording.json", "statement.json"];

    fn parts(&self) -> (&'static str, &Value) {
        match self {
            Self::Finding(value) => ("finding.json", value),
            Self::Control(value) => ("control.json", value),
            Self::Framework(value) => ("framework.json", value),
            Self::Recording(value) => ("recording.json", value),
            Self::Statement(value) => ("statement.json", value),
        }
    }
}

/// What is said about the bundle as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct BundleHead {
    /// Whose evidence it is; statements of another tenant are refused.
    pub tenant: TenantId,
    /// When it is exported.
    pub created: Timestamp,
    /// By which program.
    pub program: Program,
    /// What it is about.
    pub summary: Summary,
}

/// Writes a bundle to a stream. The same calls give the same bytes.
pub struct BundleWriter<'key, W: Write> {
    zip: ZipWriter<StreamWriter<SealingWriter<W>>>,
    key: &'key SigningKey,
    /// Keys whose signatures are accepted: the bundle's own first.
    accepted: Vec<PublicKey>,
    tenant: TenantId,
    created: Timestamp,
    program: Program,
    files: BTreeMap<String, Digest>,
    total: u64,
    /// Artifacts that a collection or a recording names and that were not added yet.
    wanted: BTreeMap<String, String>,
}

impl<'key, W: Write> BundleWriter<'key, W> {
    /// Begins a bundle that `key` signs; it is also the key that signed the statements and artifacts, unless [`BundleWriter::earlier_key`]
    /// names others.
    pub fn new(out: W, key: &'key SigningKey, head: BundleHead) -> Result<Self, BundleError> {
        let mut zip = ZipWriter::new_stream(SealingWriter::new(out));
        zip.set_comment(comment_placeholder()).map_err(zip_error)?;
        let BundleHead { tenant, created, program, summary } = head;
        let (files, wanted) = (BTreeMap::new(), BTreeMap::new());
        let accepted = vec![key.public()];
        let mut writer = Self { zip, key, accepted, tenant, created, program, files, total: 0, wanted };
        for (name, text) in FIXED_FILES {
            writer.file(name, text.as_bytes())?;
        }
        writer.file(KEY_FILE, key.public().to_pem().as_bytes())?;
        let (name, value) = summary.parts();
        writer.file(name, format!("{value:#}\n").as_bytes())?;
        Ok(writer)
    }

    /// Adds a key that signed evidence before the bundle's own took over. Its signatures are accepted from here on.
    pub fn earlier_key(&mut self, key: PublicKey) -> Result<(), BundleError> {
        if self.accepted.contains(&key) {
            return Ok(());
        }
        self.file(&earlier_key_file(&key), key.to_pem().as_bytes())?;
        self.accepted.push(key);
        Ok(())
    }

    /// Adds a statement, after checking it.
    pub fn statement(&mut self, signed: &SignedStatement) -> Result<(), BundleError> {
        let refuse = |problem: String| BundleError::refused("ev", problem);
        let key = signer(&self.accepted, &signed.pae, &signed.sig);
        let statement = verify(&signed.pae, &signed.sig, &key).map_err(|error| refuse(error.to_string()))?;
        let (tenant, evidence) = match &statement {
            Statement::Collection(it) => (it.tenant, it.evidence),
            Statement::Assessment(it) => (it.tenant, it.evidence),
            Statement::Recording(it) => (it.tenant, it.evidence),
            Statement::Review(it) => (it.tenant, it.evidence),
            Statement::Bundle(_) => return Err(refuse("a bundle holds no statement about bundles".to_owned())),
        };
        let path = format!("ev/{evidence}");
        if tenant != self.tenant {
            return Err(BundleError::refused(path, "belongs to another tenant than the bundle"));
        }
        if signed.pae.len() as u64 > STATEMENT_BYTES_MAX {
            return Err(BundleError::refused(path, format!("is larger than {STATEMENT_BYTES_MAX} bytes")));
        }
        self.file(&format!("{path}.pae"), &signed.pae)?;
        self.file(&format!("{path}.sig"), &signed.sig)?;
        self.file(&format!("{path}.dsse.json"), &signed.envelope())?;
        let subjects = match statement {
            Statement::Collection(it) => it.subjects,
            Statement::Recording(it) => it.subjects,
            Statement::Review(it) => it.subjects,
            Statement::Assessment(_) | Statement::Bundle(_) => Vec::new(),
        };
        let missing = subjects.into_iter().filter(|subject| !self.files.contains_key(&subject.name));
        self.wanted.extend(missing.map(|subject| (subject.name, path.clone())));
        Ok(())
    }

    /// Adds the proof that a statement of this bundle is in the tenant's log, which `log` signs, after checking it.
    pub fn logged(&mut self, signed: &SignedStatement, proof: &LogProof, log: &PublicKey) -> Result<(), BundleError> {
        let refuse = |problem: String| BundleError::refused("ev", problem);
        let key = signer(&self.accepted, &signed.pae, &signed.sig);
        let statement = verify(&signed.pae, &signed.sig, &key).map_err(|error| refuse(error.to_string()))?;
        let id = statement.evidence().ok_or_else(|| refuse("a statement about bundles is in no log".to_owned()))?;
        let path = format!("ev/{id}.tlog-proof");
        let checkpoint = proof.verify(&statement_entry(id, &signed.digest()), log);
        let checkpoint = checkpoint.map_err(|error| BundleError::refused(&path, error.to_string()))?;
        if !checkpoint.origin.is_of(self.tenant) {
            return Err(BundleError::refused(path, "is of another tenant's log"));
        }
        if !self.files.contains_key(LOG_KEY_FILE) {
            self.file(LOG_KEY_FILE, log.to_pem().as_bytes())?;
        }
        self.file(&path, proof.to_string().as_bytes())
    }

    /// Adds an artifact with its stored signature, reading it once. Adding one again does nothing.
    pub fn artifact(
        &mut self,
        digest: &Digest,
        signature: &[u8; 64],
        mut content: impl Read,
    ) -> Result<(), BundleError> {
        let path = blob_path(digest);
        if self.files.contains_key(&path) {
            return Ok(());
        }
        verify_artifact_digest(digest, signature, &signer(&self.accepted, digest.as_bytes(), signature))
            .map_err(|_| BundleError::refused(&path, "its stored signature does not verify with the bundle's keys"))?;
        if self.stream(&path, &mut content)? != *digest {
            return Err(BundleError::refused(path, "the stored bytes are not those that were signed"));
        }
        self.file(&format!("{path}.sha256"), digest.as_bytes())?;
        self.file(&format!("{path}.sig"), signature)?;
        self.wanted.remove(&path);
        Ok(())
    }

    /// Writes the manifest and ends the archive.
    pub fn finish(mut self) -> Result<W, BundleError> {
        if let Some((path, statement)) = self.wanted.pop_first() {
            return Err(BundleError::refused(path, format!("`{statement}` names it, but it was not added")));
        }
        let list = manifest_list(&self.files);
        self.file(MANIFEST_LIST, list.as_bytes())?;
        let files = std::mem::take(&mut self.files);
        let statement = Statement::Bundle(BundleStatement {
            subjects: files.into_iter().map(|(name, digest)| Subject { name, digest }).collect(),
            tenant: self.tenant,
            created: self.created,
            program: self.program.clone(),
        });
        let refuse = |error: crate::StatementError| BundleError::refused("manifest.json", error.to_string());
        let json = statement.to_json().map_err(refuse)?;
        let signed = sign(&json, self.key);
        if signed.pae.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(BundleError::refused(
                "manifest.json",
                format!("is larger than {MANIFEST_BYTES_MAX} bytes: export less at once"),
            ));
        }
        let [json_file, pae_file, sig_file] = MANIFEST_FILES;
        self.file(json_file, &json)?;
        self.file(pae_file, &signed.pae)?;
        self.file(sig_file, &signed.sig)?;
        let sealing = self.zip.finish().map_err(zip_error)?.into_inner();
        Ok(sealing.finish()?)
    }

    fn file(&mut self, name: &str, content: &[u8]) -> Result<(), BundleError> {
        self.stream(name, &mut &*content).map(drop)
    }

    fn stream(&mut self, name: &str, content: &mut impl Read) -> Result<Digest, BundleError> {
        if self.files.contains_key(name) {
            return Err(BundleError::refused(name, "was added twice"));
        }
        if self.files.len() as u64 + MANIFEST_FILES.len() as u64 >= ENTRIES_MAX {
            return Err(BundleError::refused(
                name,
                format!("a bundle holds at most {ENTRIES_MAX} files: export less at once"),
            ));
        }
        // Fixed metadata: the same input gives the same archive on every machine at every time.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .system(System::Unix)
            .unix_permissions(if name.rsplit('.').next() == Some("sh") { 0o755 } else { 0o644 });
        self.zip.start_file(name, options).map_err(zip_error)?;
        let mut hash = Sha256::new();
        let size = copy_hashed(&mut content.take(FILE_BYTES_MAX + 1), &mut hash, &mut self.zip)?;
        self.total += size;
        if size > FILE_BYTES_MAX || self.total > TOTAL_BYTES_MAX {
            return Err(BundleError::refused(name, "makes the bundle too large: export less at once"));
        }
        let digest = hash.finish();
        self.files.insert(name.to_owned(), digest);
        Ok(digest)
    }
}

/// The key of these that made the signature; the first where none did, so that what verifies next says that it does not.
pub(crate) fn signer(keys: &[PublicKey], message: &[u8], signature: &[u8]) -> PublicKey {
    let found = keys.iter().find(|key| key.verify(message, signature).is_ok());
    #[expect(clippy::indexing_slicing, reason = "the bundle's own key is always there")]
    *found.unwrap_or(&keys[0])
}

/// The list of files in the form that `sha256sum -c` reads.
pub(crate) fn manifest_list(files: &BTreeMap<String, Digest>) -> String {
    files
        .iter()
        .filter(|(name, _)| *name != MANIFEST_LIST)
        .fold(String::new(), |list, (name, digest)| list + &format!("{digest}  {name}\n"))
}

fn zip_error(error: zip::result::ZipError) -> BundleError {
    match error {
        zip::result::ZipError::Io(error) => BundleError::Io(error),
        other => BundleError::refused(CONTAINER, other.to_string()),
    }
}
