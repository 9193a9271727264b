//! Which connections agents and relays ask over, so that these end when somebody is let in no more (ADR 0072).
//!
//! **Not for** the relay channel, which the hub ends, and not for deciding who is let in: every request is judged anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use domain::FleetId;
use uuid::Uuid;

/// Connections of one agent or relay that are kept in mind. A proxy in front of the server may bring one agent over many.
const EACH_MAX: usize = 256;
/// For how long it is remembered who was ended: longer than judging a request takes.
const REMEMBERED: Duration = Duration::from_mins(2);
/// So many are kept in mind before it is looked for those whose connections are gone.
const FIRST_LOOK: usize = 1_024;

/// A connection as whoever accepts connections sees it.
pub trait Connection: Send + Sync {
    /// Ends it within a second: what is at work has less than that to end.
    fn end(&self);

    /// Who has asked over it.
    fn askers(&self) -> &Askers;
}

/// Who has asked over a connection. One of several callers is a proxy's: it is not ended with one of them, since the others would lose what they
/// are at, and theirs is not the connection of whoever is let in no more.
#[derive(Debug, Default)]
pub struct Askers {
    first: OnceLock<Uuid>,
    several: AtomicBool,
}

impl Askers {
    /// Notes who asks: an agent, a relay, or none of them. Whether nobody else has asked.
    pub(crate) fn asks(&self, who: Option<FleetId>) -> bool {
        let who = who.map_or(Uuid::nil(), |who| who.as_uuid());
        if *self.first.get_or_init(|| who) != who {
            self.several.store(true, Ordering::Release);
        }
        !self.is_several()
    }

    fn is_several(&self) -> bool {
        self.several.load(Ordering::Acquire)
    }
}

/// The connection that a request came over: an extension of the request.
#[derive(Clone)]
pub struct Carrier(pub Arc<dyn Connection>);

/// The connections of agents and relays that are let in. It keeps none of them open.
#[derive(Default)]
pub struct Connections(Mutex<Known>);

#[derive(Default)]
struct Known {
    of: HashMap<FleetId, Vec<Weak<dyn Connection>>>,
    /// Who was ended lately, and when.
    ended: HashMap<FleetId, Instant>,
    /// How many there were after the last look for those that are gone.
    left: usize,
}

impl Connections {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody is let in over a connection. `asked`: when it was begun to look whether they are; whoever was ended since then is not.
    pub(crate) fn hold(&self, id: FleetId, carrier: &Carrier, asked: Instant) {
        if !carrier.0.askers().asks(Some(id)) {
            return;
        }
        let mut known = self.known();
        if known.ended.get(&id).is_some_and(|at| *at >= asked) {
            drop(known);
            return carrier.0.end();
        }
        let mut surplus = None;
        let held = known.of.entry(id).or_default();
        if !held.iter().any(|weak| std::ptr::addr_eq(weak.as_ptr(), Arc::as_ptr(&carrier.0))) {
            held.retain(|weak| weak.strong_count() > 0);
            if held.len() >= EACH_MAX {
                surplus = held.remove(0).upgrade();
            }
            held.push(Arc::downgrade(&carrier.0));
        }
        if known.of.len() >= (known.left * 2).max(FIRST_LOOK) {
            known.of.retain(|_, held| held.iter().any(|weak| weak.strong_count() > 0));
            known.left = known.of.len();
        }
        drop(known);
        // What is not kept in mind could not be ended later.
        if let Some(surplus) = surplus.filter(|surplus| !surplus.askers().is_several()) {
            surplus.end();
        }
    }

    /// Somebody is let in no more: ends their connections. How many there were.
    pub fn end(&self, id: FleetId) -> usize {
        let mut known = self.known();
        known.ended.retain(|_, at| at.elapsed() < REMEMBERED);
        known.ended.insert(id, Instant::now());
        let held = known.of.remove(&id).unwrap_or_default();
        drop(known);
        let open: Vec<_> =
            held.iter().filter_map(Weak::upgrade).filter(|connection| !connection.askers().is_several()).collect();
        for connection in &open {
            connection.end();
        }
        open.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use domain::{AgentId, RelayId};

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize, Askers);

    impl Connection for Counted {
        fn end(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn askers(&self) -> &Askers {
            &self.1
        }
    }

    impl Counted {
        fn ended(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn carrier() -> (Arc<Counted>, Carrier) {
        let counted = Arc::<Counted>::default();
        (Arc::clone(&counted), Carrier(counted))
    }

    fn agent(number: u128) -> FleetId {
        FleetId::Agent(AgentId::from_uuid(Uuid::from_u128(number)))
    }

    #[test]
    fn the_connections_of_who_is_ended_end_once_each_and_nobody_elses() {
        let connections = Connections::default();
        let ((own, own_carrier), (other, other_carrier)) = (carrier(), carrier());
        let relay = FleetId::Relay(RelayId::from_uuid(Uuid::from_u128(1)));
        for _ in 0..3 {
            connections.hold(agent(1), &own_carrier, Instant::now());
            connections.hold(relay, &other_carrier, Instant::now());
        }
        assert_eq!(connections.end(agent(1)), 1);
        assert_eq!((own.ended(), other.ended()), (1, 0));
        assert_eq!(connections.end(agent(1)), 0);
        assert_eq!(connections.end(relay), 1);
        assert_eq!((own.ended(), other.ended()), (1, 1));
    }

    #[test]
    fn attack_23_who_is_ended_while_a_request_is_judged_does_not_keep_its_connection() {
        let connections = Connections::default();
        let (own, own_carrier) = carrier();
        let asked = Instant::now();
        connections.end(agent(1));
        connections.hold(agent(1), &own_carrier, asked);
        assert_eq!(own.ended(), 1);
        // Terms that changed end nobody for good: who is let in after that stays.
        let later = Instant::now() + Duration::from_millis(1);
        connections.hold(agent(1), &own_carrier, later);
        assert_eq!(own.ended(), 1);
    }

    #[test]
    fn a_connection_that_several_ask_over_ends_with_none_of_them() {
        let connections = Connections::default();
        let (shared, with_people) = (carrier(), carrier());
        connections.hold(agent(1), &shared.1, Instant::now());
        connections.hold(agent(2), &shared.1, Instant::now());
        assert!(with_people.1.0.askers().asks(None));
        connections.hold(agent(3), &with_people.1, Instant::now());
        assert_eq!([1, 2, 3].map(|number| connections.end(agent(number))), [0, 0, 0]);
        assert_eq!((shared.0.ended(), with_people.0.ended()), (0, 0));
        // Nor because one of them has too many.
        let oldest = carrier();
        connections.hold(agent(4), &oldest.1, Instant::now());
        assert!(!oldest.1.0.askers().asks(None));
        let many: Vec<_> = (0..EACH_MAX).map(|_| carrier()).collect();
        for (_, carrier) in &many {
            connections.hold(agent(4), carrier, Instant::now());
        }
        assert_eq!((oldest.0.ended(), connections.end(agent(4))), (0, EACH_MAX));
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded_and_keeps_nothing_open() {
        let connections = Connections::default();
        let many: Vec<_> = (0..=EACH_MAX).map(|_| carrier()).collect();
        for (_, carrier) in &many {
            connections.hold(agent(0), carrier, Instant::now());
        }
        let ended: Vec<_> = many.iter().map(|(counted, _)| counted.ended()).collect();
        assert_eq!((ended[0], ended[1..].iter().sum::<usize>()), (1, 0), "the oldest gives way");
        for number in 1..10_000 {
            let (counted, carrier) = carrier();
            connections.hold(agent(number), &carrier, Instant::now());
            drop(carrier);
            assert_eq!(Arc::strong_count(&counted), 1);
        }
        assert!(connections.known().of.len() <= FIRST_LOOK);
        assert_eq!(connections.end(agent(0)), EACH_MAX);
    }
}
