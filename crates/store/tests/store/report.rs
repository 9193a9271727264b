//! Agents as the store knows them: who speaks for a machine, and what many who ask at once are told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use access::{Actor, Freshness, Grants, OpCtx, Role, fleet_ops, ops};
use domain::{
    AgentId, Clock as _, Digest, EnrollmentTokenId, Error, FleetCredentialId, FleetId, Labels, RequestId, SessionId,
    TenantId, UserId,
};
use store::{
    Enrollment, FoundUnit, LiveUnit, NewEnrollmentToken, NewFleetCredential, NewUnit, ReportBegun, ReportPermit, Seen,
    Store,
};

use crate::pair::{Pair, each_engine};

/// An agent that is enrolled.
struct Agent {
    id: AgentId,
    tenant: TenantId,
    credential: FleetCredentialId,
}

async fn enrolled(pair: &Pair<'_>, tenant: TenantId, name: &str) -> Agent {
    let id = AgentId::generate(&*pair.clock, &*pair.rng);
    let credential = enroll(pair, tenant, name, id.into()).await;
    Agent { id, tenant, credential }
}

/// Enrolls an agent or a relay; its credential.
pub(crate) async fn enroll(pair: &Pair<'_>, tenant: TenantId, name: &str, id: FleetId) -> FleetCredentialId {
    let (clock, rng) = (&*pair.clock, &*pair.rng);
    let expires_at = clock.now().plus_millis(365 * 86_400_000);
    let lookup = EnrollmentTokenId::generate(clock, rng).to_string();
    let new = NewEnrollmentToken {
        lookup: lookup.clone(),
        hash: Digest([1; 32]),
        kind: id.kind(),
        labels: Labels::default(),
        expires_at,
    };
    // A person: nobody else makes one for a relay.
    let (user, session) = (UserId::generate(clock, rng), SessionId::generate(clock, rng));
    let actor = Actor::User { id: user, email: "admin@example.org".parse().unwrap(), session };
    let grants = Grants { platform_admin: false, tenants: vec![(tenant, Role::TenantAdmin)] };
    let request = RequestId::generate(clock, rng);
    let person = OpCtx::user(actor, grants, request, None, pair.clock.clone(), pair.rng.clone());
    let permit = person.with_freshness(Freshness::Fresh).authorize::<ops::EnrollmentTokenCreate>(tenant).unwrap();
    pair.store.write(permit).await.unwrap().enrollment_token_create(&new).await.unwrap();
    let token = pair.store.enrollment_token_find(&lookup).await.unwrap().unwrap();
    let credential = FleetCredentialId::generate(clock, rng);
    let unit = NewUnit {
        id,
        name: name.parse().unwrap(),
        public_key: [7; 32],
        version: "1.0.0".to_owned(),
        credential: NewFleetCredential { id: credential, hash: format!("hash of {name}"), expires_at },
        number: 1,
        proof_id: "a proof".to_owned(),
    };
    let ctx = OpCtx::system("test", tenant, pair.clock.clone(), pair.rng.clone());
    assert_eq!(pair.store.enroll(&ctx, &token, &unit).await.unwrap(), Enrollment::Done);
    credential
}

impl Agent {
    fn ctx(&self, pair: &Pair<'_>, ip: &str) -> OpCtx {
        let actor = Actor::Agent { id: self.id, name: "agent".parse().unwrap(), tenant: self.tenant };
        let request = RequestId::generate(&*pair.clock, &*pair.rng);
        let ip = Some(ip.parse().unwrap());
        OpCtx::user(actor, Grants::default(), request, ip, pair.clock.clone(), pair.rng.clone())
    }

    fn permit(&self, pair: &Pair<'_>) -> ReportPermit {
        self.ctx(pair, "192.0.2.1").authorize_fleet::<fleet_ops::AgentReport>().unwrap()
    }

    async fn find(&self, store: &Store) -> FoundUnit {
        store.fleet_find(self.tenant, self.id.into(), self.credential).await.unwrap()
    }

    async fn live(&self, store: &Store) -> LiveUnit {
        match self.find(store).await {
            FoundUnit::Live(unit) => *unit,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_agents_that_claim_one_machine_at_the_same_moment_one_speaks_for_it() {
    each_engine(async |pair| {
        // Two servers, since that is how it comes about.
        let other = pair.with_another_server().await;
        for round in 0..10 {
            let machine = format!("{round:016x}");
            let mut agents = Vec::new();
            for n in 0..4 {
                agents.push(enrolled(pair, pair.a, &format!("host-{round}-{n}")).await);
            }
            let claims = agents.iter().enumerate().map(|(n, agent)| {
                let store = if n % 2 == 0 { pair.store.clone() } else { other.store.clone() };
                let (permit, machine) = (agent.permit(pair), machine.clone());
                tokio::spawn(async move { store.report_begin(&permit, &machine, (1, 1), &["accounts"]).await })
            });
            let (mut taken, mut refused) = (Vec::new(), 0);
            for (agent, claim) in agents.iter().zip(claims.collect::<Vec<_>>()) {
                match claim.await.unwrap() {
                    Ok(ReportBegun::Take(lease, _)) => taken.push((agent, lease)),
                    Ok(ReportBegun::Known(state)) => panic!("{state:?}"),
                    Err(Error::Conflict { message }) => {
                        assert!(message.contains("another agent (agt_"), "{message}");
                        refused += 1;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert_eq!((taken.len(), refused), (1, 3), "round {round}");
            // And goes on to: its report ends well, and nobody else's begins.
            let (winner, lease) = taken.pop().unwrap();
            let states = [("accounts".to_owned(), Digest([9; 32]))].into();
            let permit = winner.permit(pair);
            let state = pair.store.report_end(&permit, lease, &states, &[], false).await.unwrap();
            assert_eq!((state.machine.as_str(), state.scopes), (machine.as_str(), states));
            for loser in agents.iter().filter(|agent| agent.id != winner.id) {
                let again = pair.store.report_begin(&loser.permit(pair), &machine, (1, 2), &["accounts"]).await;
                assert!(matches!(again, Err(Error::Conflict { .. })), "{again:?}");
                assert_eq!(pair.store.report_state(&loser.permit(pair)).await.unwrap().machine, "");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_ask_at_once_are_told_about_themselves_in_their_own_tenant() {
    each_engine(async |pair| {
        let mut agents = Vec::new();
        for n in 0..20 {
            let tenant = if n % 3 == 0 { pair.b } else { pair.a };
            let agent = enrolled(pair, tenant, &format!("host-{n}")).await;
            let lease = pair.store.report_begin(&agent.permit(pair), &format!("{n:016x}"), (1, 1), &["accounts"]).await;
            let ReportBegun::Take(lease, _) = lease.unwrap() else { panic!("it is the first") };
            let states = [("accounts".to_owned(), Digest([u8::try_from(n).unwrap(); 32]))].into();
            pair.store.report_end(&agent.permit(pair), lease, &states, &[], false).await.unwrap();
            agents.push(agent);
        }
        let asks = (0..400).map(|n| {
            let (store, n) = (pair.store.clone(), n % agents.len());
            let (agent, permit) = (&agents[n], agents[n].permit(pair));
            let (tenant, id, credential) = (agent.tenant, FleetId::from(agent.id), agent.credential);
            let elsewhere = if tenant == pair.a { pair.b } else { pair.a };
            let next = agents[(n + 3) % agents.len()].credential;
            tokio::spawn(async move {
                let FoundUnit::Live(unit) = store.fleet_find(tenant, id, credential).await.unwrap() else {
                    panic!("host-{n} is there")
                };
                assert_eq!((unit.id, unit.name.as_str(), unit.tenant), (id, &*format!("host-{n}"), tenant));
                assert_eq!(unit.hash, format!("hash of host-{n}"));
                // The same in another tenant, or of another credential, is nobody.
                for (tenant, credential) in [(elsewhere, credential), (tenant, next)] {
                    let found = store.fleet_find(tenant, id, credential).await.unwrap();
                    assert!(matches!(found, FoundUnit::Unknown), "{found:?}");
                }
                let state = store.report_state(&permit).await.unwrap();
                assert_eq!(state.machine, format!("{n:016x}"));
                assert_eq!(state.scopes["accounts"], Digest([u8::try_from(n).unwrap(); 32]));
            })
        });
        for ask in asks.collect::<Vec<_>>() {
            ask.await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_are_seen_at_once_are_written_down_once_each_and_the_ended_are_not() {
    each_engine(async |pair| {
        let other = pair.with_another_server().await;
        let mut agents = Vec::new();
        for n in 0..12 {
            let agent = enrolled(pair, if n % 2 == 0 { pair.a } else { pair.b }, &format!("host-{n}")).await;
            let unit = agent.live(&pair.store).await;
            let seen = Seen { number: 2, proof_id: "two", version: "1.0.0" };
            // The first use of a credential, and its address, are a matter of their own.
            assert!(pair.store.fleet_seen(&agent.ctx(pair, "192.0.2.1"), &unit, &seen).await.unwrap());
            agents.push(agent);
        }
        pair.write::<ops::AgentRevoke>(pair.a).await.agent_revoke(agents[0].id).await.unwrap();
        pair.clock.advance(Duration::from_mins(2));
        let now = pair.clock.now();
        // Each twice, at two servers, with one number: one of the two is written down.
        let mut tries = Vec::new();
        for (n, agent) in agents.iter().enumerate() {
            for (store, proof) in [(&pair.store, "here"), (&other.store, "there")] {
                let unit = match agent.find(store).await {
                    FoundUnit::Live(unit) => *unit,
                    _ => LiveUnit { id: agent.id.into(), tenant: agent.tenant, ..agents[1].live(store).await },
                };
                assert!(unit.used_before);
                let (store, ctx) = (store.clone(), agent.ctx(pair, "192.0.2.1"));
                let seeing = async move {
                    let seen = Seen { number: 3, proof_id: proof, version: "1.0.1" };
                    store.fleet_seen(&ctx, &unit, &seen).await.unwrap()
                };
                tries.push((n, proof, tokio::spawn(seeing)));
            }
        }
        let mut won = BTreeSet::new();
        for (n, proof, seeing) in tries {
            if seeing.await.unwrap() {
                assert!(won.insert(n), "host-{n} was written down twice");
                let unit = agents[n].live(&pair.store).await;
                assert_eq!((unit.number, unit.proof_id.as_str(), unit.version.as_str()), (3, proof, "1.0.1"));
                assert_eq!((unit.last_seen_at, unit.last_seen_ip.as_deref()), (Some(now), Some("192.0.2.1")));
            }
        }
        assert_eq!(won, (1..agents.len()).collect());
        assert!(matches!(agents[0].find(&pair.store).await, FoundUnit::Refused { reason: "revoked" }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_writes_alone_remembers_who_is_let_in_until_anything_is_written() {
    each_engine(async |pair| {
        let alone = pair.with_another_server().await;
        alone.store.only_writer();
        let mut agents = Vec::new();
        for n in 0..8 {
            agents.push(enrolled(&alone, pair.a, &format!("host-{n}")).await);
        }
        let live = async |agent: &Agent| matches!(agent.find(&alone.store).await, FoundUnit::Live(_));
        for agent in &agents {
            assert!(live(agent).await && live(agent).await);
        }
        // Many ask while they are revoked, one after the other: whoever asks after the answer is refused.
        let stop = Arc::new(AtomicBool::new(false));
        let asking: Vec<_> = agents
            .iter()
            .map(|agent| {
                let (store, stop) = (alone.store.clone(), Arc::clone(&stop));
                let (tenant, id, credential) = (agent.tenant, agent.id, agent.credential);
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        store.fleet_find(tenant, id.into(), credential).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for (n, agent) in agents.iter().enumerate() {
            if n % 2 == 0 {
                alone.write::<ops::AgentRevoke>(pair.a).await.agent_revoke(agent.id).await.unwrap();
            } else {
                // Who revokes goes away in the middle of it: what became of it shows at once, or when the next one writes.
                let (store, id) = (alone.store.clone(), agent.id);
                let permit = alone.permit::<ops::AgentRevoke>(pair.a);
                let revoking = tokio::spawn(async move { store.write(permit).await?.agent_revoke(id).await.map(drop) });
                for _ in 0..n {
                    tokio::task::yield_now().await;
                }
                revoking.abort();
                let _ = revoking.await;
                let label = Labels::default();
                alone.write::<ops::AgentLabel>(pair.a).await.agent_label(agents[7].id, &label).await.unwrap();
            }
            let fresh = pair.with_another_server().await;
            let truth = matches!(agent.find(&fresh.store).await, FoundUnit::Live(_));
            assert_eq!(live(agent).await, truth, "host-{n}");
            assert!(n % 2 == 1 || !truth);
        }
        stop.store(true, Ordering::Relaxed);
        for asking in asking {
            asking.await.unwrap();
        }
        // What another process writes is not seen, where nobody writes beside: that is what the server says of itself.
        let agent = enrolled(&alone, pair.a, "last").await;
        assert!(live(&agent).await);
        pair.write::<ops::AgentRevoke>(pair.a).await.agent_revoke(agent.id).await.unwrap();
        assert_eq!(live(&agent).await, pair.postgres().is_none());
    })
    .await;
}

#[tokio::test]
async fn what_is_remembered_ends_with_its_time_and_follows_what_is_written_down() {
    each_engine(async |pair| {
        pair.store.only_writer();
        let agent = enrolled(pair, pair.a, "host").await;
        let unit = agent.live(&pair.store).await;
        let seen = |number| Seen { number, proof_id: "next", version: "1.0.0" };
        let ctx = agent.ctx(pair, "192.0.2.1");
        assert!(pair.store.fleet_seen(&ctx, &unit, &seen(20)).await.unwrap());
        let unit = agent.live(&pair.store).await;
        assert_eq!((unit.number, unit.used_before), (20, true));
        assert!(pair.store.fleet_seen(&ctx, &unit, &seen(40)).await.unwrap());
        assert_eq!(agent.live(&pair.store).await.number, 40);
        assert_eq!(pair.store.report_state(&agent.permit(pair)).await.unwrap().machine, "");
        let lease = pair.store.report_begin(&agent.permit(pair), "00112233445566aa", (1, 1), &["accounts"]).await;
        let ReportBegun::Take(lease, _) = lease.unwrap() else { panic!("it is the first") };
        assert_eq!(pair.store.report_state(&agent.permit(pair)).await.unwrap().sequence, 0);
        let states = [("accounts".to_owned(), Digest([3; 32]))].into();
        pair.store.report_end(&agent.permit(pair), lease, &states, &[], false).await.unwrap();
        assert_eq!(pair.store.report_state(&agent.permit(pair)).await.unwrap().sequence, 1);
        pair.clock.advance(Duration::from_hours(24 * 400));
        assert!(matches!(agent.find(&pair.store).await, FoundUnit::Refused { reason: "expired" }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_report_that_is_not_taken_in_makes_the_next_one_of_its_agent_not_wait() {
    each_engine(async |pair| {
        let agent = enrolled(pair, pair.a, "host-1").await;
        let begin = async |sequence| {
            let permit = agent.permit(pair);
            pair.store.report_begin(&permit, "0000000000000001", (1, sequence), &["accounts"]).await
        };
        let Ok(ReportBegun::Take(failed, _)) = begin(1).await else { panic!("it is the first") };
        assert!(matches!(begin(2).await, Err(Error::Throttled { .. })), "one at a time");
        failed.release().await;
        let Ok(ReportBegun::Take(given_up, _)) = begin(2).await else { panic!("the one before was given back") };
        // Its request is over, as when the agent hangs up; the clock stands still, so that no lease runs out.
        drop(given_up);
        let began = std::time::Instant::now();
        let lease = loop {
            match begin(3).await {
                Ok(ReportBegun::Take(lease, _)) => break lease,
                Err(Error::Throttled { .. }) => assert!(began.elapsed() < Duration::from_mins(1), "it waits still"),
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        // What was begun and never ended counts for nothing.
        let states = [("accounts".to_owned(), Digest([9; 32]))].into();
        let state = pair.store.report_end(&agent.permit(pair), lease, &states, &[], false).await.unwrap();
        assert_eq!((state.sequence, state.scopes), (3, states));
    })
    .await;
}
