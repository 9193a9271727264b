//! How many of something there may be at a time, in all and of one holder: an address, a user.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the places that are taken.
#[derive(Debug)]
pub struct Places<K: Eq + Hash + Clone> {
    max: usize,
    each: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    of: HashMap<K, usize>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash + Clone> {
    places: Arc<Places<K>>,
    holder: K,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All are taken.
    All,
    /// This holder has as many as one may.
    Holder,
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// At most `max`, of which one holder has at most `each`.
    pub fn new(max: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { max, each, taken: Mutex::new(Taken { all: 0, of: HashMap::new() }) })
    }

    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one, if there is one for them.
    pub fn take(self: &Arc<Self>, holder: K) -> Result<Place<K>, Full> {
        let mut taken = self.taken();
        let own = taken.of.get(&holder).copied().unwrap_or_default();
        if own >= self.each {
            return Err(Full::Holder);
        }
        if taken.all >= self.max {
            return Err(Full::All);
        }
        taken.all += 1;
        taken.of.insert(holder.clone(), own + 1);
        drop(taken);
        Ok(Place { places: Arc::clone(self), holder })
    }

    /// How many are taken.
    pub fn count(&self) -> usize {
        self.taken().all
    }
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.of.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                taken.of.remove(&self.holder);
            }
        }
    }
}

/// Who holds an address: one IPv4 address, or one IPv6 network of 64 bits, which is the least that a subscriber gets.
pub fn holder(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_does_not_take_every_place_and_gives_back_what_they_took() {
        let places = Places::new(3, 2);
        let (first, second) = (places.take("ann").unwrap(), places.take("ann").unwrap());
        assert_eq!(places.take("ann").unwrap_err(), Full::Holder);
        let other = places.take("bob").unwrap();
        assert_eq!(places.take("eve").unwrap_err(), Full::All);
        drop(first);
        let again = places.take("ann").unwrap();
        assert_eq!(places.count(), 3);
        drop((second, again, other));
        assert!(places.taken().of.is_empty() && places.count() == 0, "nothing is kept of who is gone");
    }

    #[test]
    fn an_ipv6_network_is_one_holder_and_a_mapped_address_the_one_that_it_maps() {
        let of = |address: &str| holder(address.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
