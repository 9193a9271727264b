//! Recordings at their end: signed when they are closed, closed when their relay is gone, deleted when their time is over.

use std::collections::HashMap;
use std::io::{Seek as _, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access::{Actor, OpCtx, Permit, ops};
use api::ports::Record;
use async_trait::async_trait;
use domain::recording::SILENCE_MS_MAX;
use domain::{Clock, Error, EvidenceId, RecordingId, RelayId, Result, Rng, TenantId};
use evidence::bundle::{BundleHead, BundleWriter, Summary};
use evidence::dsse::SignedStatement;
use evidence::recording::RecordingStatement;
use evidence::statement::{Program, Statement, Subject};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use serde_json::{Value, json};
use store::{
    NewStatement, RECORDINGS_AT_ONCE, RecordingEnding, RecordingOver, RecordingRow, RecordingSignatures, Store,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::sign::{Signer, full};

/// How often recordings are looked after.
const LOOK: Duration = Duration::from_mins(5);
/// Recordings that are sealed at a time: each is read whole.
const SEALING_MAX: usize = 4;
/// How long a server that stops waits for those that are being sealed.
const PARTING: Duration = Duration::from_secs(10);

/// A recording that is being sealed, and for whom: its relay, or the server itself.
type Key = (TenantId, RecordingId, Option<RelayId>);
/// What comes of it, for all who wait for it.
type Run = Shared<BoxFuture<'static, Result<()>>>;

/// Closes recordings, and puts them into bundles; cheap to clone.
#[derive(Clone)]
pub(crate) struct Recordings {
    store: Store,
    signer: Arc<Signer>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    runs: Arc<Mutex<HashMap<Key, Run>>>,
    places: Arc<Semaphore>,
    sealing: TaskTracker,
}

/// Takes a run away when it has ended, however.
struct Running(Arc<Mutex<HashMap<Key, Run>>>, Key);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Recordings {
    pub(crate) fn new(store: &Store, signer: &Arc<Signer>) -> Arc<Self> {
        let (clock, rng) = (Arc::clone(store.clock()), Arc::clone(store.rng()));
        Arc::new(Self {
            store: store.clone(),
            signer: Arc::clone(signer),
            clock,
            rng,
            runs: Arc::default(),
            places: Arc::new(Semaphore::new(SEALING_MAX)),
            sealing: TaskTracker::new(),
        })
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

    /// Reads all of a recording, signs what it is, and closes it.
    async fn seal(&self, permit: Permit<ops::RecordingClose>, id: RecordingId, mut end: RecordingEnding) -> Result<()> {
        let _place = self.places.acquire().await.map_err(Error::internal)?;
        let Some((row, sha256)) = self.store.recording_closing(&permit, id).await? else { return Ok(()) };
        let tenant = permit.tenant();
        if !end.began && row.chunks == 0 {
            let forgotten = self.store.write(permit).await?.recording_discard(&row, &end.reason).await?;
            // Something of it came meanwhile: it is another case then.
            return if forgotten { Ok(()) } else { Err(Error::Throttled { wait_s: 1 }) };
        }
        end.at = end.at.clamp(row.began_at, self.clock.now().max(row.began_at));
        if !end.began {
            end.complete = false;
            end.reason = format!("its relay says that there was no session, and told of one; it says: {}", end.reason);
        }
        if end.counted.is_some_and(|counted| counted != (row.chunks, row.chain)) {
            end.complete = false;
            end.reason = format!("its relay told other pieces than it counted; it says: {}", end.reason);
        }
        let signed = self.sign(tenant, &row, sha256, &end)?;
        self.store.write(permit).await?.recording_close(&row, &end, &signed).await.map(drop)
    }

    /// Closes those that nobody else ends, and deletes those whose time is over, in every tenant. What cannot be done to one stops none of the others.
    async fn tend(&self, stop: &CancellationToken) -> Result<()> {
        let platform = OpCtx::system_platform("recordings", Arc::clone(&self.clock), Arc::clone(&self.rng));
        for tenant in self.store.recording_tenants(platform.authorize_platform()?).await? {
            let ctx = OpCtx::system("recordings", tenant, Arc::clone(&self.clock), Arc::clone(&self.rng));
            for done in [self.close_all(&ctx, tenant, stop).await, self.delete_all(&ctx, tenant, stop).await] {
                if let Err(error) = done {
                    tracing::error!(%tenant, %error, ?error, "a tenant's recordings are not looked after");
                }
            }
        }
        Ok(())
    }

    async fn close_all(&self, ctx: &OpCtx, tenant: TenantId, stop: &CancellationToken) -> Result<()> {
        let mut after = None;
        loop {
            let due = self.store.recordings_to_close(&ctx.authorize(tenant)?, after).await?;
            for (id, why) in &due {
                if stop.is_cancelled() {
                    return Ok(());
                }
                let reason = match why {
                    RecordingOver::Silent => "nothing was heard of it any more: its relay stopped, or was cut off",
                    RecordingOver::TooLong => "it went on for longer than a session may, and its relay did not end it",
                };
                let end = RecordingEnding {
                    at: self.clock.now(),
                    began: true,
                    complete: false,
                    reason: reason.to_owned(),
                    counted: None,
                    more: json!({}),
                };
                // Another server may have done so meanwhile.
                if let Err(error) = self.close(ctx.authorize(tenant)?, *id, end).await
                    && !matches!(error, Error::NotFound { .. })
                {
                    tracing::error!(recording = %id, %error, ?error, "a recording cannot be closed");
                }
            }
            after = due.last().map(|(id, _)| *id);
            if due.len() < RECORDINGS_AT_ONCE {
                return Ok(());
            }
        }
    }

    async fn delete_all(&self, ctx: &OpCtx, tenant: TenantId, stop: &CancellationToken) -> Result<()> {
        let mut after = None;
        loop {
            let over = self.store.recordings_kept_no_longer(&ctx.authorize(tenant)?, after).await?;
            for id in &over {
                if stop.is_cancelled() {
                    return Ok(());
                }
                if let Err(error) = self.store.recording_delete(ctx.authorize(tenant)?, *id).await
                    && !matches!(error, Error::NotFound { .. })
                {
                    tracing::error!(recording = %id, %error, ?error, "a recording cannot be deleted");
                }
            }
            after = over.last().copied();
            if over.len() < RECORDINGS_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Looks after recordings until `stop`. A server that was away leaves relays the time to tell what they held meanwhile.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut wait = Duration::from_millis(SILENCE_MS_MAX.unsigned_abs());
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => break,
            }
            wait = LOOK;
            if let Err(error) = self.tend(&stop).await {
                tracing::warn!(%error, ?error, "recordings are not looked after");
            }
        }
        self.sealing.close();
        let _ = tokio::time::timeout(PARTING, self.sealing.wait()).await;
    }
}

#[async_trait]
impl Record for Recordings {
    /// A long recording takes longer to read than a request may: it goes on when who asked is gone, and who asks again waits for the same run.
    async fn close(&self, permit: Permit<ops::RecordingClose>, id: RecordingId, end: RecordingEnding) -> Result<()> {
        let relay = match permit.ctx().actor() {
            Actor::Relay { id, .. } => Some(*id),
            _ => None,
        };
        let key = (permit.tenant(), id, relay);
        let run = {
            let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(run) = runs.get(&key) {
                run.clone()
            } else {
                // It waits for this lock before it takes itself away.
                let (this, running) = (self.clone(), Running(Arc::clone(&self.runs), key));
                let task = self.sealing.spawn(async move {
                    let _running = running;
                    this.seal(permit, id, end).await
                });
                let run = async move { task.await.map_err(Error::internal)? }.boxed().shared();
                runs.insert(key, run.clone());
                run
            }
        };
        run.await
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

#[cfg(test)]
mod tests;
