//! How many things there may be at a time, in all and from one address: connections, requests at work.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gateway::places::holder;

/// Refusals are counted in metrics and told in the log at most this often: a flood must not become a flood of lines.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Counts.
#[derive(Debug)]
pub struct Admission {
    what: &'static str,
    max: usize,
    per_address: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    told: Option<Instant>,
}

/// One that counts as long as this lives.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    /// At most `max`, of which at most `per_address` from one address (0: as many as all). `what`: for metrics and the log.
    pub fn new(what: &'static str, max: usize, per_address: usize) -> Arc<Self> {
        let per_address = if per_address == 0 { max } else { per_address };
        Arc::new(Self { what, max, per_address, counts: Mutex::default() })
    }

    /// Admits one more, or does not.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Admitted> {
        let address = holder(peer);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = counts.by_address.get(&address).copied().unwrap_or_default();
        let limit = match () {
            () if of_address >= self.per_address => "one address",
            () if counts.all >= self.max => "all",
            () => {
                counts.all += 1;
                counts.by_address.insert(address, of_address + 1);
                self.tell(counts.all);
                return Some(Admitted { admission: Arc::clone(self), address });
            }
        };
        metrics::counter!("cairn_refused_total", "what" => self.what, "limit" => limit).increment(1);
        if counts.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            counts.told = Some(Instant::now());
            tracing::warn!(%address, limit, "too many {}: some are refused", self.what);
        }
        None
    }

    fn tell(&self, all: usize) {
        metrics::gauge!("cairn_at_work", "what" => self.what).set(u32::try_from(all).unwrap_or(u32::MAX));
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.admission.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
        self.admission.tell(counts.all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_takes_no_more_than_its_part_and_gives_it_back() {
        let admission = Admission::new("connections", 3, 2);
        let admit = |address: &str| admission.admit(address.parse().unwrap());
        let (first, _second) = (admit("192.0.2.1").unwrap(), admit("192.0.2.1").unwrap());
        assert!(admit("192.0.2.1").is_none() && admit("::ffff:192.0.2.1").is_none());
        let other = admit("192.0.2.2").unwrap();
        assert!(admit("192.0.2.3").is_none(), "all are taken");
        drop((first, other));
        assert!(admit("192.0.2.1").is_some());
        assert_eq!(admission.counts.lock().unwrap().by_address.len(), 1, "nothing is kept of who is gone");
    }

    #[test]
    fn an_ipv6_network_is_one_holder() {
        let admission = Admission::new("connections", 9, 1);
        let _one = admission.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(admission.admit("2001:db8::ffff:2".parse().unwrap()).is_none());
        assert!(admission.admit("2001:db8:0:1::1".parse().unwrap()).is_some());
    }
}
