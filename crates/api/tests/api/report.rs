//! Agents' reports at the door: who may send one, and how much of one is read. What a report says is `server`'s.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use domain::{Digest, FleetKind, Limits, Result};
use futures::stream;
use http::Request;
use wire::report::{Answer, MEDIA_TYPE, Outcome};

use crate::fleet::Machine;
use crate::world::{World, admin, each_engine};

/// Takes reports in, and remembers who sent what.
#[derive(Default)]
struct Taking(Mutex<Vec<(String, String, Digest)>>);

#[async_trait]
impl api::ports::Report for Taking {
    async fn report(&self, permit: store::ReportPermit, report: Bytes) -> Result<Answer> {
        let taken = (permit.id().to_string(), permit.tenant().to_string(), crypto::sha256(&report));
        self.0.lock().unwrap().push(taken);
        Ok(Answer { result: Outcome::Accepted, epoch: 1, sequence: 1, scopes: BTreeMap::default(), interval_s: None })
    }
}

fn taking(world: &World) -> (Arc<Taking>, Router) {
    let taking = Arc::new(Taking::default());
    (taking.clone(), api::router(world.state.clone().with_reports(taking)))
}

fn path(id: &str) -> String {
    format!("/api/v1/agents/{id}/report")
}

/// A signed report of `by` for `id`.
fn report(world: &World, by: &mut Machine, id: &str, body: &str) -> Request<Body> {
    let mut request = by.request(world, "POST", &path(id), body, |_| ());
    request.headers_mut().insert("content-type", MEDIA_TYPE.parse().unwrap());
    request
}

#[test]
fn attack_22_a_report_is_taken_from_the_agent_itself_and_from_nobody_else() {
    each_engine(|world| async move {
        let (taken, router) = taking(&world);
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let neighbour = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let elsewhere = Machine::enrolled(&world, world.b, FleetKind::Agent).await;
        let mut relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        for id in [&neighbour.id, &elsewhere.id, &relay.id, "agt_nobody"] {
            let request = report(&world, &mut agent, id, "a report");
            world.send_to(&router, request).await.is(403);
        }
        for id in [agent.id.clone(), relay.id.clone()] {
            let request = report(&world, &mut relay, &id, "a report");
            world.send_to(&router, request).await.is(403);
        }
        let own = agent.id.clone();
        // What was signed is what is taken, as what it was meant.
        let signed = report(&world, &mut agent, &own, "a report").into_parts().0;
        world.send_to(&router, Request::from_parts(signed, Body::from("another"))).await.is(401);
        let mut request = report(&world, &mut agent, &own, "a report");
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        world.send_to(&router, request).await.is(400);
        let request = report(&world, &mut agent, &own, "a report");
        world.send_to(&router, request).await.is(200);
        let expected = (agent.id.clone(), world.a.to_string(), crypto::sha256(b"a report"));
        assert_eq!(*taken.0.lock().unwrap(), [expected]);
    });
}

#[test]
fn attack_23_the_next_report_of_a_revoked_agent_is_refused() {
    each_engine(|world| async move {
        let (taken, router) = taking(&world);
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let id = agent.id.clone();
        let request = report(&world, &mut agent, &id, "before");
        world.send_to(&router, request).await.is(200);
        world.by(&admin(), "DELETE", &format!("/api/v1/tenants/acme/agents/{id}"), None).await.is(204);
        let request = report(&world, &mut agent, &id, "after");
        world.send_to(&router, request).await.is(401);
        assert_eq!(taken.0.lock().unwrap().len(), 1);
    });
}

/// Bytes without end, and how many of them were asked for.
fn endless() -> (Arc<AtomicUsize>, Body) {
    const PIECE: usize = 16 * 1_024;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let pieces = std::iter::repeat_with(move || {
        counted.fetch_add(PIECE, Ordering::SeqCst);
        Ok::<_, Infallible>(Bytes::from_static(&[0x1f; PIECE]))
    });
    (asked, Body::from_stream(stream::iter(pieces)))
}

#[test]
fn attack_26_of_a_report_without_end_no_more_is_read_than_a_report_may_have() {
    each_engine(|world| async move {
        let (taken, router) = taking(&world);
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let id = agent.id.clone();
        // Ten gigabytes, told beforehand: refused before a byte is read.
        let (asked, body) = endless();
        let mut head = report(&world, &mut agent, &id, "").into_parts().0;
        head.headers.insert("content-length", (10_u64 << 30).into());
        world.send_to(&router, Request::from_parts(head, body)).await.is(413);
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        // Not told beforehand: refused when there is more than may be.
        let (asked, body) = endless();
        let head = report(&world, &mut agent, &id, "").into_parts().0;
        world.send_to(&router, Request::from_parts(head, body)).await.is(413);
        let read = asked.load(Ordering::SeqCst);
        assert!((Limits::BODY_BYTES..=Limits::BODY_BYTES + 64 * 1_024).contains(&read), "{read}");
        // Of who is nobody, or an agent that is no more, nothing is read at all.
        let (asked, body) = endless();
        world.send_to(&router, Request::post(path(&id)).body(body).unwrap()).await.is(401);
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        world.by(&admin(), "DELETE", &format!("/api/v1/tenants/acme/agents/{id}"), None).await.is(204);
        let (asked, body) = endless();
        let head = report(&world, &mut agent, &id, "").into_parts().0;
        world.send_to(&router, Request::from_parts(head, body)).await.is(401);
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        assert!(taken.0.lock().unwrap().is_empty());
    });
}

#[test]
fn an_agent_that_reports_too_often_is_told_how_long_to_wait_and_holds_up_nobody_else() {
    each_engine(|world| async move {
        let (taken, router) = taking(&world);
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let mut neighbour = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let (id, next) = (agent.id.clone(), neighbour.id.clone());
        for _ in 0..120 {
            let request = report(&world, &mut agent, &id, "a report");
            world.send_to(&router, request).await.is(200);
        }
        // Nothing of one too many is read.
        let (asked, body) = endless();
        let head = report(&world, &mut agent, &id, "").into_parts().0;
        let refused = world.send_to(&router, Request::from_parts(head, body)).await.is(429);
        assert_eq!((refused.header("retry-after"), asked.load(Ordering::SeqCst)), ("1", 0));
        let request = report(&world, &mut neighbour, &next, "another's");
        world.send_to(&router, request).await.is(200);
        // Its own credential it may renew meanwhile, and a while later it reports again.
        agent.call(&world).await.is(200);
        world.clock.advance(std::time::Duration::from_millis(500));
        let request = report(&world, &mut agent, &id, "later");
        world.send_to(&router, request).await.is(200);
        let request = report(&world, &mut agent, &id, "at once again");
        world.send_to(&router, request).await.is(429);
        // Whoever has somebody's credential and no key takes nothing from them.
        world.clock.advance(std::time::Duration::from_mins(2));
        for _ in 0..130 {
            let mut stolen = report(&world, &mut neighbour, &id, "");
            let credential = format!("DPoP {}", agent.credential);
            stolen.headers_mut().insert("authorization", credential.parse().unwrap());
            world.send_to(&router, stolen).await.is(401);
        }
        let request = report(&world, &mut agent, &id, "still");
        world.send_to(&router, request).await.is(200);
        assert_eq!(taken.0.lock().unwrap().len(), 123);
    });
}
