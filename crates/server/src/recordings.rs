//! Recordings at their end: signed when they are closed, closed when their relay is gone, deleted when their time is over.

use std::io::{Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use access::{OpCtx, Permit, ops};
use api::ports::Record;
use async_trait::async_trait;
use domain::recording::SILENCE_MS_MAX;
use domain::{Clock, Error, EvidenceId, RecordingId, Result, Rng, TenantId};
use evidence::bundle::{BundleHead, BundleWriter, Summary};
use evidence::dsse::SignedStatement;
use evidence::recording::RecordingStatement;
use evidence::statement::{Program, Statement, Subject};
use serde_json::{Value, json};
use store::{NewStatement, RecordingEnding, RecordingRow, RecordingSignatures, Store};
use tokio_util::sync::CancellationToken;

use crate::sign::{Signer, full};

/// How often recordings are looked after.
const LOOK: Duration = Duration::from_mins(5);

/// Closes recordings, and puts them into bundles.
pub(crate) struct Recordings {
    store: Store,
    signer: Arc<Signer>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl Recordings {
    pub(crate) fn new(store: &Store, signer: &Arc<Signer>) -> Arc<Self> {
        let (clock, rng) = (Arc::clone(store.clock()), Arc::clone(store.rng()));
        Arc::new(Self { store: store.clone(), signer: Arc::clone(signer), clock, rng })
    }

    fn sign(
        &self,
        tenant: TenantId,
        row: &RecordingRow,
        sha256: domain::Digest,
        end: &RecordingEnding,
    ) -> Result<RecordingSignatures> {
        let evidence = EvidenceId::generate(&*self.clock, &*self.rng);
        let statement = Statement::Recording(Box::new(RecordingStatement {
            subjects: vec![Subject::artifact(sha256)],
            tenant,
            evidence,
            recording: row.id,
            user: row.user_id,
            user_name: row.user.clone(),
            user_known: row.user_known,
            session: row.session,
            destination: row.destination,
            destination_name: row.destination_name.clone(),
            about: row.about.clone(),
            relay: row.relay,
            input: row.input,
            started: row.began_at,
            finished: end.at,
            complete: end.complete,
            reason: end.reason.clone(),
            ending: end.more.clone(),
            chunks: row.chunks,
            chain: row.chain,
            bytes: row.bytes,
        }));
        let signed = self.signer.sign(&statement)?;
        let statement = NewStatement {
            id: evidence,
            kind: "recording",
            pae: signed.pae,
            signature: signed.sig,
            key_id: signed.keyid,
        };
        Ok(RecordingSignatures { sha256, signature: self.signer.sign_artifact(&sha256), statement })
    }

    /// Closes those that nothing is heard of, and deletes those whose time is over, in every tenant.
    async fn tend(&self) -> Result<()> {
        let platform = OpCtx::system_platform("recordings", Arc::clone(&self.clock), Arc::clone(&self.rng));
        for tenant in self.store.recording_tenants(platform.authorize_platform()?).await? {
            let ctx = OpCtx::system("recordings", tenant, Arc::clone(&self.clock), Arc::clone(&self.rng));
            let (silent, over) = self.store.recordings_due(&ctx.authorize::<ops::RecordingDelete>(tenant)?).await?;
            for id in silent {
                let end = RecordingEnding {
                    at: self.clock.now(),
                    began: true,
                    complete: false,
                    reason: "nothing was heard of it any more: its relay stopped, or was cut off".to_owned(),
                    counted: None,
                    more: json!({}),
                };
                self.close(ctx.authorize(tenant)?, id, end).await?;
            }
            for id in over {
                self.store.recording_delete(ctx.authorize(tenant)?, id).await?;
            }
        }
        Ok(())
    }

    /// Looks after recordings until `stop`. A server that was away leaves relays the time to tell what they held meanwhile.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut wait = Duration::from_millis(SILENCE_MS_MAX.unsigned_abs());
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            wait = LOOK;
            if let Err(error) = self.tend().await {
                tracing::warn!(%error, ?error, "recordings are not looked after");
            }
        }
    }
}

#[async_trait]
impl Record for Recordings {
    async fn close(
        &self,
        permit: Permit<ops::RecordingClose>,
        id: RecordingId,
        mut end: RecordingEnding,
    ) -> Result<()> {
        let Some((row, sha256)) = self.store.recording_closing(&permit, id).await? else { return Ok(()) };
        let tenant = permit.tenant();
        if !end.began && row.chunks == 0 {
            return self.store.write(permit).await?.recording_discard(&row, &end.reason).await;
        }
        if end.counted.is_some_and(|counted| counted != (row.chunks, row.chain)) {
            end.complete = false;
            end.reason = format!("its relay told other pieces than it counted; it says: {}", end.reason);
        }
        let signed = self.sign(tenant, &row, sha256, &end)?;
        self.store.write(permit).await?.recording_close(&row, &end, &signed).await.map(drop)
    }

    async fn export(&self, permit: Permit<ops::RecordingExport>, id: RecordingId) -> Result<std::fs::File> {
        let (tenant, created) = (permit.tenant(), self.clock.now());
        let mut material = self.store.write(permit).await?.recording_export(id).await?;
        let summary = json!({
            "recording": id,
            "user": material.row.user,
            "destination": material.row.destination_name,
            "about": material.row.about,
            "began_at": material.row.began_at,
            "ended_at": material.row.ended_at,
            "ending": material.row.ending.as_ref().unwrap_or(&Value::Null),
            "asciicast": evidence::artifact::blob_path(&material.artifact.digest),
        });
        let program = Program { name: "cairn-server".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let head = BundleHead { tenant, created, program, summary: Summary::Recording(summary) };
        let (signer, log_key) = (Arc::clone(&self.signer), self.store.log_key());
        let runtime = tokio::runtime::Handle::current();
        // Compression is work for a core, and reading is work for a disk: neither on the threads that serve.
        let written = tokio::task::spawn_blocking(move || {
            let out = tempfile::tempfile().map_err(full)?;
            let mut writer = BundleWriter::new(out, signer.key(), head).map_err(Error::internal)?;
            for public in signer.earlier_of(&[&material.statement.row.key_id, &material.artifact.key_id]) {
                writer.earlier_key(public).map_err(Error::internal)?;
            }
            let signature = |bytes: &[u8]| <[u8; 64]>::try_from(bytes).map_err(Error::internal);
            let statement = &material.statement;
            let by = signer.made_by(&statement.row.key_id);
            let signed = SignedStatement::stored(statement.pae.clone(), signature(&statement.signature)?, &by)
                .map_err(|error| Error::internal(format!("a stored statement does not verify: {error}")))?;
            writer.statement(&signed).map_err(Error::internal)?;
            if let Some(proof) = &material.proof {
                writer.logged(&signed, proof, &log_key).map_err(Error::internal)?;
            }
            let mut whole = Vec::new();
            while let Some(piece) = runtime.block_on(material.reader.next())? {
                whole.extend_from_slice(&piece);
            }
            let (digest, by) = (material.artifact.digest, signature(&material.artifact.signature)?);
            writer.artifact(&digest, &by, whole.as_slice()).map_err(Error::internal)?;
            let mut file = writer.finish().map_err(Error::internal)?;
            file.seek(SeekFrom::Start(0)).map_err(Error::internal)?;
            Ok(file)
        });
        written.await.map_err(Error::internal)?
    }
}
