//! What becomes of recordings at their end, on both engines: closed with what was told, cut off where it does not hold, deleted in time.

use std::sync::Arc;
use std::time::Duration;

use access::{Freshness, Grants, Role, fleet_ops};
use crypto::aead::AeadKey;
use domain::recording::{CHAIN_BEGIN, DURATION_MS_MAX, chain};
use domain::{
    DestinationId, DestinationKind, Digest, EnrollmentTokenId, FleetCredentialId, FleetKind, Labels, RequestId,
    SessionId, Timestamp, UserId,
};
use store::{
    NewDestination, NewEnrollmentToken, NewFleetCredential, NewRecording, NewUnit, OpenOptions, RecordingFilter,
    RecordingKey, RecordingPolicy, VaultOptions,
};
use testkit::{Postgres, TestClock, TestDatabase, TestRng};

use super::*;
use crate::datadir::DataDir;

const HEADER: &[u8] = b"{\"version\":2,\"width\":80,\"height\":24}\n";
const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;

/// A tenant with a relay in front of a cluster.
struct World {
    recordings: Arc<Recordings>,
    store: Store,
    clock: Arc<TestClock>,
    rng: Arc<TestRng>,
    tenant: TenantId,
    relay: RelayId,
    destination: DestinationId,
    dir: tempfile::TempDir,
    _postgres: Option<TestDatabase<'static>>,
}

async fn each_engine(test: impl AsyncFn(&World)) {
    for on_postgres in [false, true] {
        let world = World::new(on_postgres.then(|| Postgres::shared().database())).await;
        test(&world).await;
        world.store.close().await;
    }
}

impl World {
    async fn new(postgres: Option<TestDatabase<'static>>) -> Self {
        let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(5)));
        let dir = tempfile::tempdir().unwrap();
        let url = match &postgres {
            None => format!("sqlite:{}", dir.path().join("cairn.db").display()),
            Some(database) => database.app_url.clone(),
        };
        let options = OpenOptions {
            url,
            owner_url: postgres.as_ref().map(|database| database.owner_url.clone()),
            master: AeadKey::from_bytes([7; 32]),
            vault: VaultOptions { witness: Some(dir.path().join("witness")), ..VaultOptions::default() },
            blobs: dir.path().join("blobs"),
            clock: clock.clone(),
            rng: rng.clone(),
        };
        let store = Store::open(options).await.unwrap();
        let data = DataDir::open(&dir.path().join("data")).unwrap();
        let signer = Signer::open(&store, &data).await.unwrap();
        let platform = OpCtx::system_platform("test", clock.clone(), rng.clone());
        let unit = store.write_platform(platform.authorize_platform::<ops::TenantCreate>().unwrap()).await.unwrap();
        let name = "acme";
        let tenant = unit.tenant_create(&name.parse().unwrap(), &name.parse().unwrap(), None).await.unwrap().id;
        let relay = enroll(&store, tenant, &clock, &rng).await;
        let recordings = Recordings::new(&store, &signer);
        let destination = DestinationId::generate(&*clock, &*rng);
        let mut world = Self { recordings, store, clock, rng, tenant, relay, destination, dir, _postgres: postgres };
        let new = NewDestination {
            name: "prod".parse().unwrap(),
            kind: DestinationKind::Kubernetes,
            authority: String::new(),
            address: None,
            namespaces: vec![],
            roles: vec![],
            version: "1.0.0".to_owned(),
            cluster_sha256: None,
            certificate_ends_at: None,
        };
        let permit = world.as_relay().authorize_fleet::<fleet_ops::DestinationRegister>().unwrap();
        world.destination = world.store.destination_register(permit, &new).await.unwrap().0.id;
        world
    }

    fn as_relay(&self) -> OpCtx {
        let actor = Actor::Relay { id: self.relay, name: "relay".parse().unwrap(), tenant: self.tenant };
        let request = RequestId::generate(&*self.clock, &*self.rng);
        OpCtx::user(actor, Grants::default(), request, None, self.clock.clone(), self.rng.clone())
    }

    fn permit<O: access::TenantOperation>(&self) -> Permit<O> {
        OpCtx::system("test", self.tenant, self.clock.clone(), self.rng.clone()).authorize(self.tenant).unwrap()
    }

    /// Begins one that began at this moment by the relay's clock.
    async fn begin(&self, at: Timestamp) -> RecordingId {
        let id = RecordingId::generate(&*self.clock, &*self.rng);
        let new = NewRecording {
            id,
            at,
            destination: self.destination,
            user: "ann".to_owned(),
            user_id: UserId::generate(&*self.clock, &*self.rng),
            session: SessionId::generate(&*self.clock, &*self.rng),
            role: "edit".to_owned(),
            about: json!({}),
        };
        let permit = self.as_relay().authorize_fleet::<fleet_ops::RecordingBegin>().unwrap();
        self.store.recording_begin(permit, &new).await.unwrap();
        id
    }

    async fn now(&self) -> RecordingId {
        self.begin(self.clock.now()).await
    }

    async fn chunk(&self, id: RecordingId, number: u64, bytes: &[u8]) -> Result<()> {
        let permit = self.as_relay().authorize_fleet::<fleet_ops::RecordingAppend>().unwrap();
        self.store.recording_append(permit, id, number, bytes).await
    }

    async fn end(&self, id: RecordingId, end: RecordingEnding) -> Result<()> {
        let permit = self.as_relay().authorize_fleet::<fleet_ops::RecordingEnd>().unwrap();
        self.recordings.close(permit.close(), id, end).await
    }

    async fn row(&self, id: RecordingId) -> Result<RecordingRow> {
        let mut read = self.store.read(self.permit::<ops::RecordingList>()).await.unwrap();
        read.recording_show(id).await.map(|(row, _)| row)
    }

    async fn tend(&self) {
        self.recordings.tend(&CancellationToken::new()).await.unwrap();
    }

    /// The details of this action's records, the oldest first.
    async fn records(&self, action: &str) -> Vec<Value> {
        let filter = store::AuditFilter { limit: 500, ..store::AuditFilter::default() };
        let mut read = self.store.read(self.permit::<ops::AuditList>()).await.unwrap();
        let page = read.audit_list(&filter).await.unwrap();
        page.items.into_iter().rev().filter(|one| one.action == action).map(|one| one.detail).collect()
    }

    /// The files of pieces.
    fn files(&self) -> Vec<std::path::PathBuf> {
        fn below(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
            entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
        }
        below(&self.dir.path().join("blobs"))
    }

    /// Changes the bytes of every piece that is kept.
    fn damage(&self) {
        for file in self.files() {
            std::fs::write(file, b"something else").unwrap();
        }
    }

    async fn policy(&self, retention_days: u32) {
        let unit = self.store.write(self.permit::<ops::RecordingPolicyPut>()).await.unwrap();
        unit.recording_policy_put(&RecordingPolicy { retention_days, ..RecordingPolicy::default() }).await.unwrap();
    }
}

async fn enroll(store: &Store, tenant: TenantId, clock: &Arc<TestClock>, rng: &Arc<TestRng>) -> RelayId {
    let expires_at = clock.now().plus_millis(365 * DAY);
    let lookup = EnrollmentTokenId::generate(&**clock, &**rng).to_string();
    let new = NewEnrollmentToken {
        lookup: lookup.clone(),
        hash: Digest([1; 32]),
        kind: FleetKind::Relay,
        labels: Labels::default(),
        expires_at,
    };
    let ctx = OpCtx::system("test", tenant, clock.clone(), rng.clone());
    // A person makes it, who has just proved who they are.
    let actor = Actor::User {
        id: UserId::generate(&**clock, &**rng),
        email: "admin@example.org".parse().unwrap(),
        session: SessionId::generate(&**clock, &**rng),
    };
    let grants = Grants { platform_admin: false, tenants: vec![(tenant, Role::TenantAdmin)] };
    let request = RequestId::generate(&**clock, &**rng);
    let person = OpCtx::user(actor, grants, request, None, clock.clone(), rng.clone()).with_freshness(Freshness::Fresh);
    let permit = person.authorize::<ops::EnrollmentTokenCreate>(tenant).unwrap();
    store.write(permit).await.unwrap().enrollment_token_create(&new).await.unwrap();
    let token = store.enrollment_token_find(&lookup).await.unwrap().unwrap();
    let relay = RelayId::generate(&**clock, &**rng);
    let credential =
        NewFleetCredential { id: FleetCredentialId::generate(&**clock, &**rng), hash: "a hash".to_owned(), expires_at };
    let unit = NewUnit {
        id: relay.into(),
        name: "relay".parse().unwrap(),
        public_key: [7; 32],
        version: "1.0.0".to_owned(),
        credential,
        number: 1,
        proof_id: "a proof".to_owned(),
    };
    store.enroll(&ctx, &token, &unit).await.unwrap();
    relay
}

fn ending(at: Timestamp, pieces: &[&[u8]]) -> RecordingEnding {
    let link = |link, piece: &&[u8]| crypto::sha256(&chain(&link, &crypto::sha256(piece)));
    let link = pieces.iter().fold(CHAIN_BEGIN, link);
    RecordingEnding {
        at,
        began: true,
        complete: true,
        reason: "the command ended".to_owned(),
        counted: Some((pieces.len() as u64, link)),
        more: json!({}),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_that_were_counted_otherwise_than_told_end_a_recording_cut_off_with_an_alarm() {
    each_engine(async |world| {
        let (now, second) = (world.clock.now(), b"[0.5, \"o\", \"x\"]\n".as_slice());
        let mut fewer = ending(now, &[HEADER]);
        fewer.counted = Some((2, fewer.counted.unwrap().1));
        for (end, whole) in [
            (ending(now, &[HEADER, second]), true),
            (ending(now, &[HEADER, b"[0.5, \"o\", \"y\"]\n"]), false),
            (ending(now, &[HEADER]), false),
            (fewer, false),
            // There was no session, and something was told of it.
            (RecordingEnding { began: false, ..ending(now, &[HEADER, second]) }, false),
        ] {
            let id = world.now().await;
            world.chunk(id, 1, HEADER).await.unwrap();
            world.chunk(id, 2, second).await.unwrap();
            world.end(id, end).await.unwrap();
            let row = world.row(id).await.unwrap();
            assert_eq!(row.state, if whole { "ended" } else { "cut_off" });
            assert_eq!(row.sha256.unwrap(), crypto::sha256(&[HEADER, second].concat()), "what is there is signed");
            let record = world.records("recording_close").await.pop().unwrap();
            assert_eq!(record.get("alarm").is_some(), !whole, "{record}");
            let reason = record["reason"].as_str().unwrap();
            assert!(whole || reason.contains("its relay") && reason.ends_with("the command ended"), "{reason}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_cuts_a_recording_off_and_a_damaged_one_stops_none_of_the_others() {
    each_engine(async |world| {
        let damaged = world.now().await;
        world.chunk(damaged, 1, HEADER).await.unwrap();
        world.damage();
        let silent = world.now().await;
        world.chunk(silent, 1, b"[1, \"o\", \"a\"]\n").await.unwrap();
        world.clock.advance(Duration::from_mins(9));
        let alive = world.now().await;
        world.tend().await;
        assert_eq!(world.row(silent).await.unwrap().state, "open", "not yet");

        world.clock.advance(Duration::from_mins(2));
        world.tend().await;
        let row = world.row(silent).await.unwrap();
        assert_eq!(
            (row.state.as_str(), row.evidence.is_some(), row.ended_at),
            ("cut_off", true, Some(world.clock.now()))
        );
        let record = world.records("recording_close").await.pop().unwrap();
        assert_eq!((&record["alarm"], &record["complete"]), (&json!(true), &json!(false)));
        assert!(record["reason"].as_str().unwrap().contains("nothing was heard of it"), "{record}");
        assert_eq!(world.row(alive).await.unwrap().state, "open");
        // What was changed is never signed.
        let error = world.end(damaged, ending(world.clock.now(), &[HEADER])).await.unwrap_err();
        assert!(matches!(error, Error::Internal { .. }), "{error:?}");
        assert_eq!(world.row(damaged).await.unwrap().state, "open");

        // Its time comes all the same.
        world.clock.advance(Duration::from_hours(401 * 24));
        world.tend().await;
        assert!(matches!(world.row(damaged).await, Err(Error::NotFound { .. })));
        assert!(matches!(world.row(silent).await, Err(Error::NotFound { .. })));
        assert_eq!(world.records("recording_delete").await.len(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_its_relay_keeps_alive_for_longer_than_a_session_is_ended_by_the_server() {
    each_engine(async |world| {
        let id = world.now().await;
        for _ in 0..=DURATION_MS_MAX.div_ceil(9 * 60_000) + 1 {
            world.chunk(id, 1, b"").await.unwrap();
            world.tend().await;
            world.clock.advance(Duration::from_mins(9));
        }
        world.tend().await;
        let row = world.row(id).await.unwrap();
        assert_eq!(row.state, "cut_off");
        let reason = row.ending.unwrap()["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("longer than a session may"), "{reason}");
        assert!(matches!(world.chunk(id, 1, b"").await, Err(Error::Conflict { .. })));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relays_clock_decides_neither_how_long_recordings_are_kept_nor_their_order() {
    each_engine(async |world| {
        let now = world.clock.now();
        let mut ids = Vec::new();
        // By its clock: years ago, as it is, in a hundred years.
        for at in [now.plus_millis(-900 * DAY), now, now.plus_millis(36_500 * DAY)] {
            let id = world.begin(at).await;
            world.chunk(id, 1, HEADER).await.unwrap();
            world.end(id, ending(at, &[HEADER])).await.unwrap();
            ids.push(id);
            world.clock.advance(Duration::from_mins(1));
        }
        let mut rows = Vec::new();
        for id in &ids {
            rows.push(world.row(*id).await.unwrap());
        }
        let began: Vec<i64> = rows.iter().map(|row| row.began_at.millis_since(now)).collect();
        // No session is older than a day, none begins later than it is told.
        assert_eq!(began, [-DAY, 0, 2 * MINUTE]);
        for row in &rows {
            let ended = row.ended_at.unwrap();
            assert!(row.began_at <= ended && ended <= world.clock.now(), "{row:?}");
        }
        let records = world.records("recording_begin").await;
        assert_eq!(records[2]["at_by_relay"], json!(now.plus_millis(36_500 * DAY)), "what it said is on the record");

        // An id says when it was made, too: the newest is the first all the same, on every page.
        let late = RecordingId::generate(&TestClock::at(now.plus_millis(36_500 * DAY)), &*world.rng);
        let early = world.clock.advance(Duration::from_mins(1));
        let permit = world.as_relay().authorize_fleet::<fleet_ops::RecordingBegin>().unwrap();
        let new = NewRecording {
            id: late,
            at: early.plus_millis(-5 * MINUTE),
            destination: world.destination,
            user: "ann".to_owned(),
            user_id: UserId::generate(&*world.clock, &*world.rng),
            session: SessionId::generate(&*world.clock, &*world.rng),
            role: "edit".to_owned(),
            about: json!({}),
        };
        world.store.recording_begin(permit, &new).await.unwrap();
        let (mut listed, mut after): (Vec<RecordingId>, Option<RecordingKey>) = (Vec::new(), None);
        loop {
            let mut read = world.store.read(world.permit::<ops::RecordingList>()).await.unwrap();
            let (page, _) = read.recording_list(&RecordingFilter::default(), after, 1).await.unwrap();
            listed.extend(page.items.iter().map(|row| row.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, [ids[2], ids[1], late, ids[0]]);

        // None is kept forever, and none is gone with the next look.
        world.tend().await;
        assert_eq!(world.records("recording_delete").await.len(), 0);
        world.clock.advance(Duration::from_hours(400 * 24));
        world.tend().await;
        assert_eq!(world.records("recording_delete").await.len(), 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_whose_time_is_over_goes_at_once_with_its_files_and_nothing_else_does() {
    each_engine(async |world| {
        // More than one look takes at a time.
        for at in 0..RECORDINGS_AT_ONCE + 5 {
            let id = world.now().await;
            let text = format!("{{\"version\":2,\"n\":{at}}}\n");
            world.chunk(id, 1, text.as_bytes()).await.unwrap();
            world.end(id, ending(world.clock.now(), &[text.as_bytes()])).await.unwrap();
        }
        world.clock.advance(Duration::from_hours(36));
        let young = world.now().await;
        world.chunk(young, 1, HEADER).await.unwrap();
        world.tend().await;
        assert_eq!(world.records("recording_delete").await.len(), 0);
        world.policy(1).await;
        world.tend().await;
        assert_eq!(world.records("recording_delete").await.len(), RECORDINGS_AT_ONCE + 5);
        assert_eq!(world.files().len(), 1, "the files of the young one");
        assert_eq!(world.row(young).await.unwrap().state, "open");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_nothing_was_told_of_is_forgotten_because_nobody_was_let_in() {
    each_engine(async |world| {
        let refused = |world: &World| RecordingEnding { began: false, ..ending(world.clock.now(), &[]) };
        let id = world.now().await;
        world.end(id, refused(world)).await.unwrap();
        assert!(matches!(world.row(id).await, Err(Error::NotFound { .. })));
        assert_eq!(world.records("recording_close").await.pop().unwrap()["began"], json!(false));

        // The rows as they were read before something changed.
        let told = world.now().await;
        let row = world.row(told).await.unwrap();
        world.chunk(told, 1, HEADER).await.unwrap();
        let unit = world.store.write(world.permit::<ops::RecordingClose>()).await.unwrap();
        assert!(!unit.recording_discard(&row, "nobody").await.unwrap());
        let ended = world.now().await;
        let row = world.row(ended).await.unwrap();
        world.end(ended, ending(world.clock.now(), &[])).await.unwrap();
        let unit = world.store.write(world.permit::<ops::RecordingClose>()).await.unwrap();
        assert!(!unit.recording_discard(&row, "nobody").await.unwrap());
        for id in [told, ended] {
            assert!(world.row(id).await.is_ok(), "it stays");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_is_being_sealed_is_sealed_once_also_when_who_asked_is_gone() {
    each_engine(async |world| {
        let id = world.now().await;
        world.chunk(id, 1, HEADER).await.unwrap();
        // No place is free: the run waits.
        let places = world.recordings.places.acquire_many(SEALING_MAX.try_into().unwrap()).await.unwrap();
        let end = || ending(world.clock.now(), &[HEADER]);
        let gone = tokio::time::timeout(Duration::from_millis(1), world.end(id, end())).await;
        assert!(gone.is_err(), "who asked goes away");
        assert_eq!((world.recordings.sealing.len(), world.recordings.runs.lock().unwrap().len()), (1, 1));
        let both = async { tokio::join!(world.end(id, end()), world.end(id, end())) };
        let mut both = std::pin::pin!(both);
        assert!(futures::poll!(both.as_mut()).is_pending());
        assert_eq!(world.recordings.sealing.len(), 1, "all wait for one run");
        drop(places);
        let (first, second) = both.await;
        first.unwrap();
        second.unwrap();
        assert_eq!(world.row(id).await.unwrap().state, "ended");
        assert_eq!(world.records("recording_close").await.len(), 1);
        assert!(world.recordings.runs.lock().unwrap().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_that_was_changed_is_noticed_by_whoever_reads_it() {
    each_engine(async |world| {
        let id = world.now().await;
        world.chunk(id, 1, HEADER).await.unwrap();
        world.end(id, ending(world.clock.now(), &[HEADER])).await.unwrap();
        let read = async || {
            let unit = world.store.write(world.permit::<ops::RecordingRead>()).await.unwrap();
            unit.recording_read(id).await.unwrap().1.next().await
        };
        assert_eq!(read().await.unwrap().unwrap(), HEADER);
        world.damage();
        assert!(matches!(read().await, Err(Error::Internal { .. })));
        let permit = world.permit::<ops::RecordingExport>();
        assert!(world.recordings.export(permit, id).await.is_err(), "no bundle is made of it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_runs_goes_on_when_a_recording_is_deleted_and_stops_for_one_that_is_missing() {
    each_engine(async |world| {
        let mut ids = Vec::new();
        for text in [b"{\"version\":2,\"n\":1}\n", b"{\"version\":2,\"n\":2}\n"] {
            let id = world.now().await;
            world.chunk(id, 1, text).await.unwrap();
            world.end(id, ending(world.clock.now(), &[text])).await.unwrap();
            ids.push(id);
            world.clock.advance(Duration::from_hours(30));
        }
        let platform = OpCtx::system_platform("test", world.clock.clone(), world.rng.clone());
        let id = domain::BackupId::generate(&*world.clock, &*world.rng);
        let permit = platform.authorize_platform::<ops::BackupCreate>().unwrap();
        let backup = world.store.backup(permit, id, |_, _| Ok(())).await.unwrap();
        let read = async || crate::backup::read_all(&world.store, &backup.artifacts).await;
        assert!(read().await.unwrap().iter().all(Result::is_ok));

        world.policy(2).await;
        world.tend().await;
        assert!(world.row(ids[0]).await.is_err() && world.row(ids[1]).await.is_ok());
        let found = read().await.unwrap();
        let left_out: Vec<_> = found.iter().filter_map(|one| one.as_ref().err()).collect();
        assert_eq!(left_out.len(), 1, "{left_out:?}");
        assert!(left_out[0].contains("deleted while the backup was taken"), "{left_out:?}");

        world.damage();
        assert!(read().await.unwrap_err().to_string().contains("cannot be read"));
    })
    .await;
}
