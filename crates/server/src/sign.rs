//! The evidence key: made on first start, kept sealed, its public half published beside the data.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use access::{Permit, ops};
use anyhow::Context as _;
use api::ports::{Catalog as _, Export, Subject};
use async_trait::async_trait;
use crypto::ed25519::{PublicKey, SigningKey};
use domain::{Digest, Error, EvidenceId, FindingId, NodeId, Result};
use evidence::artifact;
use evidence::bundle::{BundleHead, BundleWriter, Summary};
use evidence::dsse::{self, SignedStatement};
use evidence::statement::{AssessmentStatement, Input, Judged, NodeList, Program, RuleCount, Statement, Verdict};
use serde_json::json;
use store::{Material, MaterialOf, Store};

use crate::catalog::Installed;
use crate::datadir::{DataDir, write_private};

/// The role of the key that signs evidence.
pub(crate) const EVIDENCE: &str = "evidence";

/// Signs statements and artifacts.
pub(crate) struct Signer {
    key: SigningKey,
    /// Public halves of the keys that signed before this one.
    earlier: Vec<PublicKey>,
    host: String,
    program: Digest,
}

impl Signer {
    /// Opens the key, making it the first time, and writes `evidence.pem` into the data directory.
    pub(crate) async fn open(store: &Store, data: &DataDir) -> anyhow::Result<Arc<Self>> {
        let key = store.signing_key(EVIDENCE).await?;
        let published = data.join("evidence.pem");
        if std::fs::read_to_string(&published).ok().as_deref() != Some(key.public().to_pem().as_str()) {
            write_private(&published, key.public().to_pem().as_bytes())?;
        }
        let earlier = store.signing_keys(EVIDENCE).await?.into_iter().map(|row| row.public);
        let earlier = earlier.filter(|public| *public != key.public()).collect();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Arc::new(Self { key, earlier, host, program: own_digest()? }))
    }

    /// The public half.
    pub(crate) fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// The public key of this id; the newest where no earlier one has it.
    pub(crate) fn made_by(&self, key_id: &str) -> PublicKey {
        let earlier = self.earlier.iter().find(|public| public.fingerprint().to_hex() == key_id);
        earlier.copied().unwrap_or(self.public())
    }

    /// The key itself, which signs bundles.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Of these keys the ones that signed before this one.
    pub(crate) fn earlier_of(&self, key_ids: &[&str]) -> impl Iterator<Item = PublicKey> {
        self.earlier.iter().copied().filter(move |public| key_ids.contains(&public.fingerprint().to_hex().as_str()))
    }

    /// The name of the machine that collects.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// SHA-256 of the running program, which says which code collected.
    pub(crate) fn program(&self) -> Digest {
        self.program
    }

    /// Signs a statement.
    pub(crate) fn sign(&self, statement: &Statement) -> Result<SignedStatement> {
        Ok(dsse::sign(&statement.to_json().map_err(Error::internal)?, &self.key))
    }

    /// Signs an artifact's digest.
    pub(crate) fn sign_artifact(&self, digest: &Digest) -> [u8; 64] {
        artifact::sign_artifact_digest(digest, &self.key)
    }
}

/// SHA-256 of the running program. One that cannot be read whole stops the start: a statement must not name another collector.
fn own_digest() -> anyhow::Result<Digest> {
    let mut file =
        std::fs::File::open("/proc/self/exe").context("cannot read the running program: is /proc mounted?")?;
    let mut hash = crypto::Sha256::new();
    // In pieces: the program is larger than everything else that this process holds.
    let mut piece = vec![0u8; 64 * 1_024];
    loop {
        match file.read(&mut piece).context("cannot read the running program")? {
            0 => return Ok(hash.finish()),
            length => hash.update(piece.get(..length).unwrap_or_default()),
        }
    }
}

/// Puts evidence into bundles.
pub(crate) struct Exporter {
    store: Store,
    signer: Arc<Signer>,
    installed: Arc<Installed>,
}

/// A statement that goes into one bundle only: the judgement of a finding at the time of its export.
struct Extra {
    summary: Summary,
    judgement: Option<SignedStatement>,
}

impl Exporter {
    pub(crate) fn new(store: Store, signer: Arc<Signer>, installed: Arc<Installed>) -> Self {
        Self { store, signer, installed }
    }

    async fn finding(
        &self,
        permit: &Permit<ops::EvidenceExport>,
        id: FindingId,
    ) -> Result<(wire::finding::Finding, Vec<(String, String)>)> {
        let read = permit.ctx().authorize::<ops::FindingList>(permit.tenant())?;
        let row = self.store.read(read).await?.finding_show(id).await?;
        let ruleset = self.installed.ruleset();
        let controls = ruleset.rule(&row.rule_id).into_iter().flat_map(|rule| &rule.controls);
        let controls =
            controls.flat_map(|(framework, ids)| ids.iter().map(move |id| (framework.clone(), id.clone()))).collect();
        Ok((api::finding_document(&ruleset, row)?, controls))
    }

    /// Judges one finding in a statement of its own, resting on the collections in the material.
    fn judgement(
        &self,
        permit: &Permit<ops::EvidenceExport>,
        finding: &wire::finding::Finding,
        material: &Material,
    ) -> Result<SignedStatement> {
        let collections = material.statements.iter().filter(|statement| statement.row.scope.is_some());
        let inputs = collections
            .map(|statement| Input { evidence: statement.row.id, pae_sha256: crypto::sha256(&statement.pae) });
        let failed = u64::from(finding.status != "resolved");
        let node: NodeId = finding.node.clone();
        self.sign_assessment(AssessmentStatement {
            subjects: Vec::new(),
            tenant: permit.tenant(),
            evidence: EvidenceId::generate(permit.ctx().clock(), permit.ctx().rng()),
            judged: Judged::Finding { finding: finding.id, rule: finding.rule.clone() },
            result: if failed == 1 { Verdict::Fail } else { Verdict::Pass },
            rules: vec![RuleCount { rule: finding.rule.clone(), passed: 1 - failed, failed, not_assessed: 0 }],
            findings: vec![finding.id],
            nodes: NodeList::new([node]),
            pack_sha256: self.installed.ruleset().digest(),
            evaluated_at: finding.changed_at,
            inputs: inputs.collect(),
        })
    }

    fn sign_assessment(&self, statement: AssessmentStatement) -> Result<SignedStatement> {
        self.signer.sign(&Statement::Assessment(Box::new(statement)))
    }
}

#[async_trait]
impl Export for Exporter {
    async fn export(&self, permit: Permit<ops::EvidenceExport>, subject: Subject) -> Result<std::fs::File> {
        let (tenant, ctx) = (permit.tenant(), permit.ctx().clone());
        let again = ctx.authorize::<ops::EvidenceExport>(tenant)?;
        let (material, extra) = match subject {
            Subject::Finding(id) => {
                let (finding, controls) = self.finding(&permit, id).await?;
                let material =
                    self.store.write(again).await?.evidence_material(&MaterialOf::Finding(id, controls)).await?;
                let judgement = self.judgement(&permit, &finding, &material)?;
                let summary = Summary::Finding(serde_json::to_value(&finding).map_err(Error::internal)?);
                (material, Extra { summary, judgement: Some(judgement) })
            }
            Subject::Control { framework, control } => {
                let of = MaterialOf::Control(framework.clone(), control.clone());
                let material = self.store.write(again).await?.evidence_material(&of).await?;
                let title = self.installed.control_title(&framework, &control);
                let summary = Summary::Control(json!({"framework": framework, "control": control, "title": title}));
                (material, Extra { summary, judgement: None })
            }
            Subject::Framework(framework) => {
                let material =
                    self.store.write(again).await?.evidence_material(&MaterialOf::Framework(framework.clone())).await?;
                (material, Extra { summary: Summary::Framework(json!({"framework": framework})), judgement: None })
            }
            Subject::Statement(id) => {
                let material = self.store.write(again).await?.evidence_material(&MaterialOf::Statement(id)).await?;
                let about = material.statements.iter().find(|statement| statement.row.id == id).map(|it| &it.row);
                let about = about.ok_or_else(|| Error::internal("a statement without itself"))?;
                let summary = json!({
                    "evidence": id, "kind": about.kind, "scope": about.scope, "framework": about.framework,
                    "control": about.control, "created_at": about.created_at,
                });
                (material, Extra { summary: Summary::Statement(summary), judgement: None })
            }
        };
        let head = BundleHead {
            tenant,
            created: ctx.clock().now(),
            program: Program { name: "cairn-server".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            summary: extra.summary,
        };
        let (signer, judgement, log_key) = (Arc::clone(&self.signer), extra.judgement, self.store.log_key());
        let runtime = tokio::runtime::Handle::current();
        // Compression is work for a core, and reading blobs is work for a disk: neither on the threads that serve.
        tokio::task::spawn_blocking(move || {
            let mut writer =
                BundleWriter::new(tempfile::tempfile().map_err(full)?, &signer.key, head).map_err(Error::internal)?;
            // Every key that this evidence was signed with comes along, and no other.
            let used = |public: &PublicKey| {
                let id = public.fingerprint().to_hex();
                let by = |key_id: &str| key_id == id;
                material.statements.iter().any(|it| by(&it.row.key_id))
                    || material.artifacts().iter().any(|it| by(&it.key_id))
            };
            for public in signer.earlier.iter().filter(|public| used(public)) {
                writer.earlier_key(*public).map_err(Error::internal)?;
            }
            for statement in &material.statements {
                let signature = <[u8; 64]>::try_from(statement.signature.as_slice()).map_err(Error::internal)?;
                let signed =
                    SignedStatement::stored(statement.pae.clone(), signature, &signer.made_by(&statement.row.key_id))
                        .map_err(|error| {
                        Error::internal(format!("the stored statement {} does not verify: {error}", statement.row.id))
                    })?;
                writer.statement(&signed).map_err(Error::internal)?;
                if let Some(proof) = material.proofs.get(&statement.row.id) {
                    writer.logged(&signed, proof, &log_key).map_err(Error::internal)?;
                }
            }
            if let Some(judgement) = judgement {
                writer.statement(&judgement).map_err(Error::internal)?;
            }
            for artifact in material.artifacts() {
                let bytes = runtime.block_on(material.bytes(artifact))?;
                let signature = <[u8; 64]>::try_from(artifact.signature.as_slice()).map_err(Error::internal)?;
                writer.artifact(&artifact.digest, &signature, bytes.as_slice()).map_err(Error::internal)?;
            }
            let mut file = writer.finish().map_err(Error::internal)?;
            file.seek(SeekFrom::Start(0)).map_err(Error::internal)?;
            Ok(file)
        })
        .await
        .map_err(Error::internal)?
    }
}

pub(crate) fn full(error: std::io::Error) -> Error {
    Error::Unavailable {
        message: "there is no room for the bundle: free some disk space, then try again".to_owned(),
        detail: error.to_string(),
    }
}
