//! The engine against a network that loses, fills and refuses what a seed says.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A network that loses what its seed says, and counts.
struct Lossy {
    live: usize,
    state: u64,
    /// Of 100 round trips, so many are lost.
    loss: u64,
    waiting: Vec<usize>,
    asked: Vec<usize>,
    full_every: usize,
    unsendable: BTreeSet<usize>,
}

impl Lossy {
    fn new(live: usize, loss: u64, seed: u64) -> Self {
        let state = seed.wrapping_mul(2).wrapping_add(1);
        Self { live, state, loss, waiting: vec![], asked: vec![], full_every: usize::MAX, unsendable: BTreeSet::new() }
    }

    fn is_lost(&mut self) -> bool {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % 100 < self.loss
    }
}

impl Prober for Lossy {
    fn send(&mut self, batch: &[Probe]) -> (usize, Option<Halt>) {
        for (taken, probe) in batch.iter().enumerate() {
            if self.unsendable.contains(&probe.key) {
                return (taken, Some(Halt::Unsendable(Errno::NETUNREACH)));
            }
            self.asked.push(probe.key);
            if probe.key < self.live && !self.is_lost() {
                self.waiting.push(probe.key);
            }
            if self.asked.len().is_multiple_of(self.full_every) {
                return (taken + 1, Some(Halt::Full));
            }
        }
        (batch.len(), None)
    }

    fn receive(&mut self, answer: &mut dyn FnMut(usize, bool)) {
        for key in self.waiting.drain(..) {
            answer(key, key.is_multiple_of(2));
        }
    }

    fn wait(&mut self, limit: Duration) {
        std::thread::park_timeout(limit.min(Duration::from_millis(1)));
    }
}

fn scan(network: &mut Lossy, keys: usize) -> Outcome {
    run(network, keys, 1, &mut Pace::new(1_000_000), &AtomicBool::new(false))
}

#[test]
fn every_live_key_is_found_however_much_is_lost_and_only_unknown_ones_are_asked_again() {
    for (loss, seed) in [(0, 1), (1, 2), (5, 3), (20, 4), (40, 5)] {
        let mut network = Lossy::new(3_000, loss, seed);
        let outcome = scan(&mut network, 10_000);
        assert_eq!(outcome.answered.iter().collect::<Vec<_>>(), (0..3_000).collect::<Vec<_>>(), "{loss} % lost");
        assert_eq!(outcome.yes.ones(), 1_500);
        assert_eq!(outcome.doubt, None, "{loss} %");
        assert_eq!(outcome.sent, network.asked.len() as u64);
        // A live key that answered was not asked once more.
        if loss == 0 {
            assert_eq!((outcome.tries, network.asked.len()), (2, 10_000 + 7_000));
        }
    }
}

#[test]
fn loss_that_no_number_of_tries_outweighs_is_told() {
    let outcome = scan(&mut Lossy::new(2_000, 90, 7), 4_000);
    assert!(outcome.doubt.as_deref().is_some_and(|doubt| doubt.ends_with("30 tries were not enough")), "{outcome:?}");
}

#[test]
fn what_cannot_be_sent_is_told_and_the_rest_is_scanned() {
    let mut network = Lossy::new(50, 0, 1);
    network.unsendable = BTreeSet::from([3, 99]);
    let outcome = scan(&mut network, 100);
    assert_eq!(outcome.answered.ones(), 49);
    assert_eq!(outcome.doubt.unwrap(), format!("2 probes could not be sent: {}", Errno::NETUNREACH));
}

#[test]
fn a_full_kernel_slows_the_scan_down_and_loses_nothing() {
    let mut network = Lossy::new(1_000, 0, 1);
    network.full_every = 400;
    let mut pace = Pace::new(1_000_000);
    let outcome = run(&mut network, 1_000, 1, &mut pace, &AtomicBool::new(false));
    assert_eq!((outcome.answered.ones(), outcome.doubt), (1_000, None));
    assert!(pace.rate < 600_000.0, "{}", pace.rate);
    assert_eq!(network.asked.len(), 1_000);
}

/// One key of sixteen answers, as where every network has its router at the same place.
struct Regular(Vec<usize>);

impl Prober for Regular {
    fn send(&mut self, batch: &[Probe]) -> (usize, Option<Halt>) {
        self.0.extend(batch.iter().map(|probe| probe.key).filter(|key| key % 16 == 3));
        (batch.len(), None)
    }

    fn receive(&mut self, answer: &mut dyn FnMut(usize, bool)) {
        self.0.drain(..).for_each(|key| answer(key, true));
    }

    fn wait(&mut self, limit: Duration) {
        std::thread::park_timeout(limit.min(Duration::from_millis(1)));
    }
}

#[test]
fn the_round_trip_is_measured_however_regularly_the_hosts_stand() {
    let keys = 1 << 16;
    let mut prober = Regular(Vec::new());
    let mut run = Run {
        prober: &mut prober,
        answered: Bitmap::new(keys),
        yes: Bitmap::new(keys),
        round_trip: RoundTrip::default(),
        sent: 0,
    };
    let (mut pace, stop) = (Pace::new(1_000_000), AtomicBool::new(false));
    assert!(pass(&mut run, keys, 1, stride(keys), true, &mut pace, &stop).unwrap().is_none());
    assert_eq!(run.answered.ones(), keys / 16);
    assert!(run.round_trip.smoothed.is_some(), "nothing was measured: every answer is waited for as in the dark");
}

#[test]
fn what_answers_at_once_slows_nothing_down() {
    let mut pace = Pace::new(1_000_000);
    run(&mut Lossy::new(1_000, 0, 1), 2_000, 1, &mut pace, &AtomicBool::new(false));
    assert!(pace.rate >= 1_000_000.0, "{}", pace.rate);
}

#[test]
fn a_stopped_scan_ends_and_says_so() {
    let stop = AtomicBool::new(true);
    let outcome = run(&mut Lossy::new(10, 0, 1), 10, 1, &mut Pace::new(10), &stop);
    assert_eq!((outcome.answered.ones(), outcome.doubt.as_deref()), (0, Some("stopped")));
}

#[test]
fn the_rate_is_never_above_its_limit() {
    let begun = Instant::now();
    let outcome = run(&mut Lossy::new(300, 0, 1), 300, 1, &mut Pace::new(1_000), &AtomicBool::new(false));
    assert_eq!(outcome.answered.ones(), 300);
    assert!(begun.elapsed() >= Duration::from_millis(280), "{:?}", begun.elapsed());
}

#[test]
fn tries_follow_from_what_the_first_one_missed() {
    for (answered, late, tries) in [(0, 0, 3), (4_096, 0, 2), (256, 0, 2), (30, 0, 3), (3, 0, 4), (4_096, 800, 10)] {
        let needed = (1..100).find(|tries| is_settled(*tries, answered, late)).unwrap();
        assert_eq!(needed, tries, "{answered} answered, {late} of them late");
    }
}

proptest! {
    #[test]
    fn a_pass_visits_every_key_once(keys in 1usize..5_000) {
        let step = stride(keys);
        let mut at = 0;
        let visited: BTreeSet<usize> = (0..keys).map(|_| { at = (at + step) % keys; at }).collect();
        prop_assert_eq!(visited.len(), keys);
    }
}
