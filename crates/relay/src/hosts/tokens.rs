//! Which tokens are worth a question to the server: those that it signed, for that host, in their time.
//!
//! **Not for** letting anybody in: the server decides, by what the token rests on. Here it is decided who may take its time at all.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crypto::es512::KeySet;
use domain::{DestinationId, Timestamp};
use gateway::Verifier;
use wire::destination_token::LIFETIME_S_MAX;

/// How far the server's clock may be off, in seconds.
const LEEWAY_S: i64 = 30;
/// For how long keys are believed.
const KEYS: Duration = Duration::from_secs(LIFETIME_S_MAX.unsigned_abs() + LEEWAY_S.unsigned_abs());

struct Known {
    issuer: String,
    keys: KeySet,
    read: Instant,
}

/// What the server said of tokens.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Option<Known>>);

impl Tokens {
    /// The server said so, after it was asked at that moment.
    pub(super) fn learn(&self, issuer: String, keys: KeySet, read: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Known { issuer, keys, read });
    }

    /// Whether a token may be good there. Where the server was not heard for too long nobody knows, and it is asked.
    pub(super) fn may_be_good(&self, token: &str, destination: DestinationId, now: Timestamp) -> bool {
        let (issuer, keys) = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match known.as_ref().filter(|known| known.read.elapsed() <= KEYS) {
                Some(known) => (known.issuer.clone(), known.keys.clone()),
                None => return true,
            }
        };
        match Verifier::new(issuer, destination, keys, LEEWAY_S).admit(token, now) {
            Ok(_) => true,
            Err(refusal) => {
                tracing::info!(%refusal, "a token is refused before the server is asked");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crypto::es512::SigningKey;
    use domain::{Clock as _, DestinationTokenId, SessionId, TenantId, UserId};
    use gateway::destination_token::issue;
    use testkit::{TestClock, TestRng};
    use wire::destination_token::DestinationClaims;

    use super::*;

    #[test]
    fn attack_69_only_tokens_that_the_server_signed_for_this_host_are_worth_a_question() {
        let (clock, rng) = (TestClock::default(), TestRng::seeded(1));
        let (key, stranger) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let (now, host) = (clock.now(), DestinationId::generate(&clock, &rng));
        let claims = DestinationClaims {
            iss: "here".to_owned(),
            aud: host,
            sub: UserId::generate(&clock, &rng),
            name: "ann@example.com".to_owned(),
            groups: Vec::new(),
            role: "deploy".parse().unwrap(),
            namespaces: None,
            act_as: Vec::new(),
            tenant: TenantId::generate(&clock, &rng),
            sid: SessionId::generate(&clock, &rng),
            jti: DestinationTokenId::generate(&clock, &rng),
            iat: now.as_seconds(),
            exp: now.as_seconds() + 60,
        };
        let (good, forged) = (issue(&key, &claims).unwrap(), issue(&stranger, &claims).unwrap());
        let tokens = Tokens::default();
        let may = |token: &str, host, now| tokens.may_be_good(token, host, now);
        assert!(may("x.y.z", host, now), "nobody said anything of keys: the server decides");
        let keys = || KeySet::new(vec![key.public().clone()]);
        tokens.learn("here".to_owned(), keys(), Instant::now());
        assert!(may(&good, host, now));
        for bad in ["", "x.y.z", &forged] {
            assert!(!may(bad, host, now), "{bad}");
        }
        assert!(!may(&good, DestinationId::generate(&clock, &rng), now), "another host's");
        assert!(!may(&good, host, now.plus_millis(120_000)), "its time is over");
        tokens.learn("elsewhere".to_owned(), keys(), Instant::now());
        assert!(!may(&good, host, now), "another installation's");
        let Some(long_ago) = Instant::now().checked_sub(KEYS + Duration::from_secs(1)) else { return };
        tokens.learn("here".to_owned(), KeySet::new(Vec::new()), long_ago);
        assert!(may(&good, host, now), "keys may have changed since");
    }
}
