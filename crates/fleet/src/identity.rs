//! Who an agent or a relay is: its key, its credential, and the proofs that it signs.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::ed25519::{PublicKey, SigningKey};
use crypto::possession::{self, Statement};
use domain::{Clock, FleetId, Rng, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use wire::fleet::{Enrolled, Renewed};

use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::numbers::Numbers;
use crate::under_way::{Request, UnderWay};

const FILE: &str = "identity.json";
/// A credential is renewed after this part of its life: in time, also where the server is away for weeks.
const RENEW_AFTER: i64 = 4;
/// More than an identity's file takes.
const ROOM_BYTES: usize = 8 * 1_024;

/// The two headers of a signed request, which is under way until this is dropped.
pub struct Signed {
    /// The value of `Authorization`.
    pub authorization: String,
    /// The value of `DPoP`.
    pub proof: String,
    _under_way: Request,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[signed]")
    }
}

/// Signs proofs, also before there is a credential.
pub(crate) struct Signer {
    pub(crate) folder: Arc<Folder>,
    key: SigningKey,
    numbers: Numbers,
    /// The server's clock minus ours, in milliseconds.
    offset_ms: AtomicI64,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl Signer {
    pub(crate) fn open(folder: Folder, began: bool, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Result<Self> {
        let folder = Arc::new(folder);
        let key = folder.key()?;
        let numbers = Numbers::open(Arc::clone(&folder), began)?;
        Ok(Self { folder, key, numbers, offset_ms: AtomicI64::new(0), clock, rng })
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// Takes over what the server's clock says.
    pub(crate) fn adjust(&self, server: Timestamp) {
        self.offset_ms.store(server.millis_since(self.clock.now()), Ordering::Relaxed);
    }

    /// The server's time, as far as it is known.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now().plus_millis(self.offset_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn proof(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
        token: &str,
        audience: Option<&str>,
    ) -> Result<String> {
        let mut id = [0; 16];
        self.rng.fill(&mut id);
        let statement = Statement {
            method: method.to_owned(),
            target: target.to_owned(),
            at_s: self.now().as_seconds(),
            id: URL_SAFE_NO_PAD.encode(id),
            number: self.numbers.take()?,
            body: crypto::sha256(body),
            token: crypto::sha256(token.as_bytes()),
            audience: audience.map(str::to_owned),
        };
        Ok(possession::sign_proof(&statement, &self.key))
    }
}

/// `identity.json`.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    id: FleetId,
    tenant: TenantId,
    installation: String,
    credential: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

impl Kept {
    fn write(&self, folder: &Folder) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::folder(error.to_string()))?;
        folder.write(FILE, &text)
    }
}

/// An enrolled agent or relay.
pub struct Identity {
    pub(crate) signer: Signer,
    kept: RwLock<Kept>,
    under_way: Arc<UnderWay>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Reads what a folder holds without taking it: whether it was enrolled.
fn read(folder: &Folder) -> Result<Option<Kept>> {
    let Some(text) = folder.read(FILE)? else { return Ok(None) };
    let path = folder.path().join(FILE);
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|_| Error::folder(format!("`{}` is broken: remove the folder and enroll anew", path.display())))
}

impl Identity {
    /// Whether a folder holds an identity.
    pub fn is_in(folder: &Folder) -> Result<bool> {
        read(folder).map(|kept| kept.is_some())
    }

    /// The identity that a folder holds.
    pub fn open(folder: Folder, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Result<Self> {
        let kept = read(&folder)?
            .ok_or_else(|| Error::folder(format!("`{}` holds no identity: enroll first", folder.path().display())))?;
        let signer = Signer::open(folder, true, clock, rng)?;
        Ok(Self { signer, kept: RwLock::new(kept), under_way: Arc::default() })
    }

    pub(crate) fn begin(signer: Signer, enrolled: Enrolled) -> Result<Self> {
        let kept = Kept {
            id: enrolled.id,
            tenant: enrolled.tenant,
            installation: enrolled.installation,
            credential: enrolled.credential,
            issued_at: signer.now(),
            expires_at: enrolled.expires_at,
        };
        kept.write(&signer.folder)?;
        Ok(Self { signer, kept: RwLock::new(kept), under_way: Arc::default() })
    }

    /// Whether the next credential could be kept, which is asked before it is asked for: fails where the disk is full.
    pub(crate) fn has_room(&self) -> Result<()> {
        self.signer.folder.has_room(FILE, ROOM_BYTES)
    }

    /// Takes the next credential over: durably, before it is used for the first time.
    pub(crate) fn renewed(&self, renewed: Renewed) -> Result<()> {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let next = Kept {
            credential: renewed.credential,
            issued_at: self.signer.now(),
            expires_at: renewed.expires_at,
            ..kept.clone()
        };
        next.write(&self.signer.folder)?;
        *kept = next;
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&Kept) -> T) -> T {
        work(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who it is.
    pub fn id(&self) -> FleetId {
        self.with(|kept| kept.id)
    }

    /// Its tenant.
    pub fn tenant(&self) -> TenantId {
        self.with(|kept| kept.tenant)
    }

    /// Until when its credential is good.
    pub fn expires_at(&self) -> Timestamp {
        self.with(|kept| kept.expires_at)
    }

    /// The server's clock minus this machine's, in milliseconds, as far as it is known.
    pub fn clock_offset_ms(&self) -> i64 {
        self.signer.offset_ms.load(Ordering::Relaxed)
    }

    /// Whether its credential is good still, as far as the time is known.
    pub fn is_good(&self) -> bool {
        self.now() < self.expires_at()
    }

    /// Whether it is time for the next credential.
    pub fn is_due(&self) -> bool {
        let now = self.now();
        self.with(|kept| now.millis_since(kept.issued_at) >= kept.expires_at.millis_since(kept.issued_at) / RENEW_AFTER)
    }

    /// Signs one request: its method, its path with its query, its body. Every try needs a signature of its own, which is kept until the answer is
    /// there: it waits while too many others are under way.
    pub async fn sign(&self, method: &str, target: &str, body: &[u8]) -> Result<Signed> {
        let (credential, installation) = self.with(|kept| (kept.credential.clone(), kept.installation.clone()));
        let sign = || self.signer.proof(method, target, body, &credential, Some(&installation));
        let (proof, under_way) = self.under_way.begin(sign).await?;
        Ok(Signed { authorization: format!("DPoP {credential}"), proof, _under_way: under_way })
    }

    /// Takes over what the server's clock says, as a refusal with the code `clock_skew` tells it (see [`crate::SERVER_TIME`]).
    pub fn adjust(&self, server: Timestamp) {
        self.signer.adjust(server);
    }
}

/// The server's time, as far as it is known: what it signed is judged by that.
impl Clock for Identity {
    fn now(&self) -> Timestamp {
        self.signer.now()
    }
}

#[cfg(test)]
mod tests {
    use testkit::{TestClock, TestRng};

    use super::*;

    fn signer(folder: Folder, began: bool, clock: &Arc<TestClock>) -> Signer {
        Signer::open(folder, began, clock.clone(), Arc::new(TestRng::seeded(1))).unwrap()
    }

    fn enrolled(clock: &TestClock, life_ms: i64) -> Enrolled {
        let rng = TestRng::seeded(2);
        Enrolled {
            id: domain::AgentId::generate(clock, &rng).into(),
            tenant: TenantId::generate(clock, &rng),
            installation: "ins_1".to_owned(),
            credential: "credential-1".to_owned(),
            expires_at: clock.now().plus_millis(life_ms),
        }
    }

    #[tokio::test]
    async fn what_is_signed_says_the_request_the_time_and_the_credential_and_no_number_twice() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(TestClock::default()));
        let path = dir.path().join("identity");
        let new = signer(Folder::open(&path).unwrap(), false, &clock);
        let key = new.public();
        let first = Identity::begin(new, enrolled(&clock, 1_000)).unwrap();
        let statement = async |identity: &Identity| {
            let signed = identity.sign("POST", "/api/v1/x?y=1", b"body").await.unwrap();
            let (signer, statement) = possession::verify_proof(&signed.proof).unwrap();
            assert_eq!(signer, key);
            (signed.authorization, statement)
        };
        let (authorization, one) = statement(&first).await;
        assert_eq!(authorization, "DPoP credential-1");
        assert_eq!((one.method.as_str(), one.target.as_str()), ("POST", "/api/v1/x?y=1"));
        assert_eq!((one.body, one.token), (crypto::sha256(b"body"), crypto::sha256(b"credential-1")));
        assert_eq!((one.audience.as_deref(), one.at_s), (Some("ins_1"), clock.now().as_seconds()));
        first.adjust(clock.now().plus_millis(3_600_000));
        let (_, two) = statement(&first).await;
        assert_eq!(two.at_s, one.at_s + 3_600);
        assert!(two.number > one.number && two.id != one.id);

        first.renewed(Renewed { credential: "credential-2".to_owned(), expires_at: clock.now() }).unwrap();
        let id = first.id();
        drop(first);
        let again = Identity::open(Folder::open(&path).unwrap(), clock.clone(), Arc::new(TestRng::seeded(3))).unwrap();
        let (authorization, three) = statement(&again).await;
        assert_eq!((authorization.as_str(), again.id()), ("DPoP credential-2", id));
        assert!(three.number > two.number);
    }

    #[test]
    fn a_credential_is_due_after_a_part_of_its_life() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(TestClock::default()));
        let new = signer(Folder::open(&dir.path().join("identity")).unwrap(), false, &clock);
        let identity = Identity::begin(new, enrolled(&clock, 4_000)).unwrap();
        assert!(!identity.is_due());
        clock.advance(std::time::Duration::from_millis(999));
        assert!(!identity.is_due());
        clock.advance(std::time::Duration::from_millis(1));
        assert!(identity.is_due());
    }

    #[test]
    fn a_folder_without_or_with_a_broken_identity_says_what_to_do() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(TestClock::default()));
        let path = dir.path().join("identity");
        let open = || Identity::open(Folder::open(&path).unwrap(), clock.clone(), Arc::new(TestRng::seeded(1)));
        assert!(open().unwrap_err().to_string().contains("enroll first"));
        let folder = Folder::open(&path).unwrap();
        assert!(!Identity::is_in(&folder).unwrap());
        folder.write(FILE, b"{").unwrap();
        drop(folder);
        assert!(open().unwrap_err().to_string().contains("enroll anew"));
    }
}
