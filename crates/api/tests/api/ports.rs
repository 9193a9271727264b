//! What the API asks its server for, as small as tests need it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use access::{Permit, ops};
use api::ports::{Catalog, Evaluate, Export, Record, Subject};
use async_trait::async_trait;
use compliance::{Ruleset, builtin};
use domain::{Digest, RecordingId};
use serde_json::{Map, Value};
use store::{EvaluationRow, FindingCounts, MaterialOf, Store};
use wire::credential::{CredentialType, Plugin, PluginSetting};

pub(crate) fn evaluation(at: domain::Timestamp) -> EvaluationRow {
    EvaluationRow { at, ruleset: Digest([3; 32]), rules: 0, nodes: 0, passed: 0, failed: 0, errors: 0 }
}

/// The shipped rules, and two plugins as the server describes them.
pub(crate) struct Installed {
    plugins: Vec<Plugin>,
    catalog: compliance::Catalog,
    ruleset: Arc<Ruleset>,
}

impl Installed {
    pub(crate) fn load() -> Self {
        let catalog = builtin::catalog().unwrap();
        let ruleset = Arc::new(
            compliance::load(&catalog, &builtin::PACKS, crypto::sha256).map_err(|errors| errors.len()).unwrap(),
        );
        let plugin = |name: &str, credential_types, setting: &str| Plugin {
            name: name.to_owned(),
            about: format!("reads {name}"),
            version: "1".to_owned(),
            credential_types,
            settings: vec![PluginSetting {
                key: setting.to_owned(),
                help: "which".to_owned(),
                example: "x".to_owned(),
                ..PluginSetting::default()
            }],
            node_types: vec![],
        };
        let owned = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect();
        let keys = CredentialType {
            name: "aws-keys".to_owned(),
            required: owned(&["access_key_id", "secret_access_key"]),
            optional: owned(&["session_token"]),
            several_lines: vec![],
        };
        Self {
            plugins: vec![plugin("aws", vec![keys], "regions"), plugin("host", vec![], "packages")],
            catalog,
            ruleset,
        }
    }
}

impl Catalog for Installed {
    fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    fn check(&self, plugin: &str, config: &Map<String, Value>) -> domain::Result<()> {
        let found = self.plugins.iter().find(|known| known.name == plugin);
        let found = found.ok_or_else(|| domain::Error::invalid("plugin", "there is no such plugin"))?;
        match config.keys().find(|key| found.settings.iter().all(|setting| setting.key != **key)) {
            Some(key) => Err(domain::Error::invalid("config", format!("there is no setting `{key}`"))),
            None => Ok(()),
        }
    }

    fn frameworks(&self) -> &compliance::Frameworks {
        &self.catalog.frameworks
    }

    fn ruleset(&self) -> Arc<Ruleset> {
        Arc::clone(&self.ruleset)
    }
}

/// Keeps an evaluation that found nothing to judge; judging is `compliance`'s, and tested there.
pub(crate) struct Evaluator {
    pub(crate) store: Store,
    pub(crate) panics: Arc<AtomicBool>,
}

#[async_trait]
impl Evaluate for Evaluator {
    async fn evaluate(&self, permit: Permit<ops::EvaluationRun>) -> domain::Result<wire::finding::Evaluation> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "a handler panics");
        let at = permit.ctx().clock().now();
        self.store.write(permit).await?.evaluation_finish(&evaluation(at), FindingCounts::default()).await?;
        Ok(wire::finding::Evaluation { at, rules: 0, nodes: 0, passed: 0, failed: 0, errors: 0, changes: 0 })
    }
}

/// The statements' signed bytes in one file; bundles are `evidence`'s, and tested there.
pub(crate) struct Exporter {
    pub(crate) store: Store,
}

#[async_trait]
impl Export for Exporter {
    async fn export(&self, permit: Permit<ops::EvidenceExport>, subject: Subject) -> domain::Result<std::fs::File> {
        use std::io::{Seek as _, Write as _};
        let of = match subject {
            Subject::Finding(id) => MaterialOf::Finding(id, vec![]),
            Subject::Control { framework, control } => MaterialOf::Control(framework, control),
            Subject::Framework(framework) => MaterialOf::Framework(framework),
            Subject::Statement(id) => MaterialOf::Statement(id),
        };
        let material = self.store.write(permit).await?.evidence_material(&of).await?;
        let mut file = tempfile::tempfile().unwrap();
        for statement in &material.statements {
            file.write_all(&statement.pae).unwrap();
        }
        file.rewind().unwrap();
        Ok(file)
    }
}

/// Closes recordings with a signature of a key of its own, and gives out their statements; bundles are `evidence`'s, and tested there.
pub(crate) struct Recordings {
    pub(crate) store: Store,
}

#[async_trait]
impl Record for Recordings {
    async fn close(
        &self,
        permit: Permit<ops::RecordingClose>,
        id: RecordingId,
        end: store::RecordingEnding,
    ) -> domain::Result<()> {
        let Some((row, sha256)) = self.store.recording_closing(&permit, id).await? else { return Ok(()) };
        if !end.began {
            return self.store.write(permit).await?.recording_discard(&row, &end.reason).await.map(drop);
        }
        let key = crypto::ed25519::SigningKey::generate().unwrap();
        let statement = store::NewStatement {
            id: domain::EvidenceId::generate(permit.ctx().clock(), permit.ctx().rng()),
            kind: "recording",
            pae: b"DSSEv1 4 type 2 {}".to_vec(),
            signature: key.sign(b"DSSEv1 4 type 2 {}"),
            key_id: key.public().fingerprint(),
        };
        let signed = store::RecordingSignatures { sha256, signature: key.sign(sha256.as_bytes()), statement };
        self.store.write(permit).await?.recording_close(&row, &end, &signed).await.map(drop)
    }

    async fn export(&self, permit: Permit<ops::RecordingExport>, id: RecordingId) -> domain::Result<std::fs::File> {
        use std::io::{Seek as _, Write as _};
        let material = self.store.write(permit).await?.recording_export(id).await?;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&material.statement.pae).unwrap();
        file.rewind().unwrap();
        Ok(file)
    }
}
