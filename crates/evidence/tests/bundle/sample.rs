//! A bundle to play with, and how to take it apart and put it together again.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::sync::LazyLock;

use crypto::ed25519::SigningKey;
use crypto::sha256;
use domain::{Coverage, EvidenceId, FindingId, JobId, TaskId, TenantId, Timestamp};
use evidence::statement::{
    BundleStatement, Collector, EvidenceKind, Input, Judged, NodeList, Program, Request, Response, RuleCount, Source,
    Subject, Times, Verdict,
};
use evidence::tile::Tiles;
use evidence::{
    AssessmentStatement, BundleError, BundleHead, BundleWriter, Checkpoint, CollectionStatement, LogProof, Origin,
    SignedStatement, Statement, Summary, merkle, sign, sign_artifact_digest, verify_bundle,
};
use serde_json::json;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

pub(crate) const REPLY: &[u8] = br#"{"PasswordPolicy":{"MinimumPasswordLength":6}}"#;
pub(crate) const CONFIG: &[u8] = b"PermitRootLogin yes\n";

/// The same key in every run, so that bundles are comparable.
pub(crate) fn key(seed: u8) -> SigningKey {
    let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    SigningKey::from_pkcs8(&[prefix.as_slice(), &[seed; 32]].concat()).unwrap()
}

/// Ids from a number: 25 zeros and a letter or digit.
pub(crate) fn id<T: std::str::FromStr>(prefix: &str, last: char) -> T {
    format!("{prefix}{}{last}", "0".repeat(25)).parse().unwrap_or_else(|_| panic!("an id"))
}

pub(crate) fn tenant() -> TenantId {
    id("ten_", '1')
}

pub(crate) fn moment() -> Timestamp {
    Timestamp::from_millis(1_795_316_400_123)
}

pub(crate) fn collection(evidence: char, artifacts: &[&[u8]]) -> CollectionStatement {
    CollectionStatement {
        subjects: artifacts.iter().map(|bytes| Subject::artifact(sha256(bytes))).collect(),
        tenant: tenant(),
        evidence: id("evd_", evidence),
        kind: EvidenceKind::ApiResponse,
        source: Source {
            system: "aws".to_owned(),
            account: Some("123456789012".to_owned()),
            region: None,
            endpoints: vec!["https://iam.amazonaws.com".to_owned()],
            tls_leaf_sha256: vec![sha256(b"leaf")],
        },
        scope: "aws:123456789012:global:iam.account".parse().unwrap(),
        coverage: Coverage::Complete,
        requests: artifacts
            .iter()
            .map(|bytes| Request {
                operation: "GetAccountPasswordPolicy".to_owned(),
                params_digest: sha256(b""),
                response: Some(Response {
                    status: 200,
                    date: Some("Sun, 22 Nov 2026 03:00:00 GMT".to_owned()),
                    request_id: Some("r-1".to_owned()),
                    digest: sha256(bytes),
                    size: bytes.len() as u64,
                }),
                error: None,
                retries: 0,
                started: moment(),
                finished: moment(),
            })
            .collect(),
        pages: 1,
        items: 1,
        nodes: NodeList::new(["aws:global:aws.iam.account:123456789012".parse().unwrap()]),
        controls: vec!["IA-5(1)".to_owned()],
        rules: vec!["aws-iam-password-length".to_owned()],
        collector: Collector {
            name: "cairn-server".to_owned(),
            version: "0.1.0".to_owned(),
            artifact_sha256: sha256(b"binary"),
            config_sha256: sha256(b"config"),
            host: "builder".to_owned(),
            relay: None,
        },
        times: Times { started: moment(), finished: moment(), clock_source: "system".to_owned(), offset_ms: Some(-3) },
        prev: Some(sha256(b"before")),
        seq: 7,
        job: Some(id::<JobId>("job_", '1')),
        task: Some(id::<TaskId>("tsk_", '1')),
        agent: None,
        since: None,
    }
}

pub(crate) fn assessment(evidence: char, inputs: &[&SignedStatement]) -> AssessmentStatement {
    let input = |signed: &&SignedStatement| Input { evidence: evidence_of(signed), pae_sha256: signed.digest() };
    AssessmentStatement {
        subjects: inputs
            .iter()
            .map(|signed| Subject { name: format!("ev/{}.pae", evidence_of(signed)), digest: signed.digest() })
            .collect(),
        tenant: tenant(),
        evidence: id("evd_", evidence),
        judged: Judged::Finding { finding: id::<FindingId>("fnd_", '1'), rule: "aws-iam-password-length".to_owned() },
        result: Verdict::Fail,
        rules: vec![RuleCount { rule: "aws-iam-password-length".to_owned(), passed: 0, failed: 1, not_assessed: 0 }],
        findings: vec![id("fnd_", '1')],
        nodes: NodeList::default(),
        pack_sha256: sha256(b"pack"),
        evaluated_at: moment(),
        inputs: inputs.iter().map(input).collect(),
    }
}

pub(crate) fn evidence_of(signed: &SignedStatement) -> EvidenceId {
    let by = |number| evidence::dsse::verify(&signed.pae, &signed.sig, &key(number).public());
    by(1).or_else(|_| by(2)).unwrap().evidence().unwrap()
}

pub(crate) fn signed(statement: Statement, key: &SigningKey) -> SignedStatement {
    sign(&statement.to_json().unwrap(), key)
}

pub(crate) fn head() -> BundleHead {
    BundleHead {
        tenant: tenant(),
        created: moment(),
        program: Program { name: "cairn-server".to_owned(), version: "0.1.0".to_owned() },
        summary: Summary::Finding(json!({"id": "fnd_1", "title": "passwords may be short"})),
    }
}

pub(crate) fn bundle() -> Vec<u8> {
    static BUNDLE: LazyLock<Vec<u8>> = LazyLock::new(write_bundle);
    BUNDLE.clone()
}

/// A finding with its assessment, one collection and two artifacts.
pub(crate) fn write_bundle() -> Vec<u8> {
    let signer = key(1);
    let collected = signed(Statement::Collection(Box::new(collection('1', &[REPLY, CONFIG]))), &signer);
    let judged = signed(Statement::Assessment(Box::new(assessment('2', &[&collected]))), &signer);
    let mut writer = BundleWriter::new(Vec::new(), &signer, head()).unwrap();
    writer.statement(&collected).unwrap();
    writer.statement(&judged).unwrap();
    writer.logged(&collected, &logged(&collected), &key(3).public()).unwrap();
    for bytes in [REPLY, CONFIG, REPLY] {
        let digest = sha256(bytes);
        writer.artifact(&digest, &sign_artifact_digest(&digest, &signer), bytes).unwrap();
    }
    writer.finish().unwrap()
}

/// The entries of a log of 600, of which the one at 300 is the statement's.
pub(crate) fn log_entries(signed: &SignedStatement) -> Vec<Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = (0..600)
        .map(|seq| format!("{{\"seq\":{seq},\"t\":\"2026-11-22T03:00:00.123Z\",\"v\":1}}").into_bytes())
        .collect();
    entries[300] = evidence::checkpoint::statement_entry(evidence_of(signed), &signed.digest());
    entries
}

pub(crate) fn log_checkpoint(entries: &[Vec<u8>]) -> Checkpoint {
    let leaves: Vec<_> = entries.iter().map(|entry| merkle::leaf_hash(entry)).collect();
    let origin = Origin::new("example.com", Some(tenant()));
    Checkpoint { origin, size: entries.len() as u64, root: merkle::root(&leaves) }
}

/// The proof that a statement is in that log, which key 3 signs.
pub(crate) fn logged(signed: &SignedStatement) -> LogProof {
    let entries = log_entries(signed);
    let leaves: Vec<_> = entries.iter().map(|entry| merkle::leaf_hash(entry)).collect();
    let mut tiles = Tiles::default();
    tiles.insert(1, 0, vec![merkle::root(&leaves[..256]), merkle::root(&leaves[256..512])]);
    for (index, part) in (0..).zip(leaves.chunks(256)) {
        tiles.insert(0, index, part.to_vec());
    }
    let hashes = evidence::tree::inclusion(300, 600, &mut tiles).unwrap();
    LogProof { index: 300, hashes, checkpoint: log_checkpoint(&entries).sign(&key(3)).unwrap() }
}

pub(crate) type FileMap = BTreeMap<String, Vec<u8>>;

pub(crate) fn unpack(bundle: &[u8]) -> FileMap {
    let mut archive = ZipArchive::new(Cursor::new(bundle)).unwrap();
    (0..archive.len())
        .map(|index| {
            let mut file = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            (file.name().unwrap().into_owned(), content)
        })
        .collect()
}

pub(crate) fn pack(files: &FileMap) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        // Not compressed: these archives are made by the hundred.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.start_file(name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Puts a new manifest, signed by `key`, over changed files: what someone who holds the key, or a bug of ours, could do.
pub(crate) fn resign(files: &mut FileMap, key: &SigningKey) {
    files.retain(|name, _| !name.starts_with("manifest."));
    let lines: Vec<String> = files.iter().map(|(name, content)| format!("{}  {name}\n", sha256(content))).collect();
    files.insert("manifest.sha256".to_owned(), lines.concat().into_bytes());
    let subjects =
        files.iter().map(|(name, content)| Subject { name: name.clone(), digest: sha256(content) }).collect();
    let manifest = BundleStatement { subjects, tenant: tenant(), created: moment(), program: head().program };
    let json = Statement::Bundle(manifest).to_json().unwrap();
    let signed = sign(&json, key);
    files.insert("manifest.json".to_owned(), json);
    files.insert("manifest.pae".to_owned(), signed.pae);
    files.insert("manifest.sig".to_owned(), signed.sig.to_vec());
}

pub(crate) fn verify(bundle: &[u8]) -> Result<evidence::Report, BundleError> {
    verify_bundle(Cursor::new(bundle), Some(key(1).public().fingerprint()))
}

/// The file and the reason of a refusal.
pub(crate) fn refusal(bundle: &[u8]) -> (String, String) {
    match verify(bundle) {
        Err(BundleError::Refused { file, problem }) => (file, problem),
        other => panic!("{other:?}"),
    }
}
