//! How many things there may be at a time, in all and from one address: connections, requests at work.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gateway::places::{Full, Place, Places, holder};

/// Refusals are counted in metrics and told in the log at most this often: a flood must not become a flood of lines.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Counts.
#[derive(Debug)]
pub struct Admission {
    what: &'static str,
    places: Arc<Places<IpAddr>>,
    told: Mutex<Option<Instant>>,
}

/// One that counts as long as this lives.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    place: Option<Place<IpAddr>>,
}

impl Admission {
    /// At most `max`, of which at most `per_address` from one address (0: as many as all). `what`: for metrics and the log.
    pub fn new(what: &'static str, max: usize, per_address: usize) -> Arc<Self> {
        let per_address = if per_address == 0 { max } else { per_address };
        Arc::new(Self { what, places: Places::new(max, per_address), told: Mutex::default() })
    }

    /// Admits one more, or does not.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Admitted> {
        let address = holder(peer);
        let limit = match self.places.take(address) {
            Ok(place) => {
                self.tell();
                return Some(Admitted { admission: Arc::clone(self), place: Some(place) });
            }
            Err(Full::Holder) => "one address",
            Err(Full::All) => "all",
        };
        metrics::counter!("cairn_refused_total", "what" => self.what, "limit" => limit).increment(1);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(%address, limit, "too many {}: some are refused", self.what);
        }
        None
    }

    fn tell(&self) {
        let all = u32::try_from(self.places.count()).unwrap_or(u32::MAX);
        metrics::gauge!("cairn_at_work", "what" => self.what).set(all);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        drop(self.place.take());
        self.admission.tell();
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
        assert_eq!(admission.places.count(), 1, "the second's is still taken, and no other");
    }

    #[test]
    fn an_ipv6_network_is_one_holder() {
        let admission = Admission::new("connections", 9, 1);
        let _one = admission.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(admission.admit("2001:db8::ffff:2".parse().unwrap()).is_none());
        assert!(admission.admit("2001:db8:0:1::1".parse().unwrap()).is_some());
    }
}
