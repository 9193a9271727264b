//! The tokens that are in use, and what is open under each, so that it can be cut.
//!
//! Whether a token is good is asked of its verifier each time, which remembers what it verified (a signature over P-521 costs more than the rest
//! of a request) and forgets it when keys are withdrawn. What is open may outlive its token, as with any API server, and stays here so that it
//! can be cut.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use domain::{Timestamp, UserId};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Admission, Admit, Refusal};
use crate::word::Word;

/// Tokens at a time, and of one user.
const TOKENS_MAX: usize = 20_000;
const TOKENS_OF_ONE_MAX: usize = 500;
/// Requests at a time under one token.
const OPEN_MAX: usize = 512;

/// How long what is cut may take to end.
const PARTING: Duration = Duration::from_secs(5);

/// A token in use.
pub struct Token {
    admission: Admission,
    cut: CancellationToken,
    why: OnceLock<String>,
    open: AtomicUsize,
    confirmed: OnceCell<()>,
    word: Word,
}

impl Token {
    /// What it says.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Requests that are open under it.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Until when what it rests on stands, as far as anybody said.
    pub fn word(&self) -> &Word {
        &self.word
    }

    /// Cuts what is open under it, and refuses it from now on.
    pub fn cut(&self, why: &str) {
        let _ = self.why.set(why.to_owned());
        self.cut.cancel();
    }

    /// Why it was cut; none while it was not.
    pub fn why_cut(&self) -> Option<&str> {
        self.cut.is_cancelled().then(|| self.why.get().map_or("", String::as_str))
    }

    fn refusal(&self) -> Option<Refusal> {
        self.why_cut().map(|why| Refusal::Unauthenticated(format!("this token is good no more: {why}")))
    }
}

/// A request that is open under a token.
pub struct Place(Arc<Token>);

impl Place {
    /// Its token.
    pub fn token(&self) -> &Arc<Token> {
        &self.0
    }

    /// Fires when the token is cut.
    pub fn cut(&self) -> &CancellationToken {
        &self.0.cut
    }

    /// Waits until this token was confirmed once: for the first request, and all that come meanwhile.
    pub async fn confirm(&self, confirm: &dyn Confirm) -> Result<(), Refusal> {
        self.0.confirmed.get_or_try_init(|| confirm.confirm(&self.0)).await?;
        self.0.refusal().map_or(Ok(()), Err)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Asks somebody who knows more than the token says, when it is first used.
#[async_trait::async_trait]
pub trait Confirm: Send + Sync {
    /// Whether what the token says still holds. Where nobody can be asked, the token's word stands.
    async fn confirm(&self, token: &Arc<Token>) -> Result<(), Refusal>;
}

/// The tokens in use at one proxy.
#[derive(Default)]
pub struct Live {
    /// By their ids, and not by their text: of one signature there are two texts that verify.
    tokens: Mutex<HashMap<String, Arc<Token>>>,
    /// Connections that switched protocols: they are nobody's request any more.
    carried: TaskTracker,
}

impl Live {
    fn tokens(&self) -> MutexGuard<'_, HashMap<String, Arc<Token>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in under its token.
    pub fn enter(&self, admit: &dyn Admit, token: &str, now: Timestamp) -> Result<Place, Refusal> {
        let token = self.learn(admit.admit(token, now)?, now)?;
        if let Some(refusal) = token.refusal() {
            return Err(refusal);
        }
        if token.open.fetch_add(1, Ordering::AcqRel) >= OPEN_MAX {
            drop(Place(token));
            return Err(Refusal::Unavailable(format!("{OPEN_MAX} of your requests are open: end some")));
        }
        Ok(Place(token))
    }

    fn learn(&self, admission: Admission, now: Timestamp) -> Result<Arc<Token>, Refusal> {
        let mut tokens = self.tokens();
        if let Some(known) = tokens.get(&admission.jti) {
            return Ok(Arc::clone(known));
        }
        let of_one = |tokens: &HashMap<String, Arc<Token>>, user: UserId| {
            tokens.values().filter(|token| token.admission.user_id == user).count()
        };
        let is_full = |tokens: &HashMap<_, _>| {
            tokens.len() >= TOKENS_MAX || of_one(tokens, admission.user_id) >= TOKENS_OF_ONE_MAX
        };
        if is_full(&tokens) {
            tokens.retain(|_, token| token.open() > 0 || now < token.admission.expires);
        }
        if of_one(&tokens, admission.user_id) >= TOKENS_OF_ONE_MAX {
            return Err(Refusal::Unavailable(format!(
                "{TOKENS_OF_ONE_MAX} of your tokens are in use here: use one of them, or try again in five minutes"
            )));
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(Refusal::Unavailable("too many tokens are in use here: try again in a minute".to_owned()));
        }
        let id = admission.jti.clone();
        let token = Arc::new(Token {
            admission,
            cut: CancellationToken::new(),
            why: OnceLock::new(),
            open: AtomicUsize::new(0),
            confirmed: OnceCell::new(),
            word: Word::default(),
        });
        tokens.insert(id, Arc::clone(&token));
        Ok(token)
    }

    /// Every token that is in use or may be used again.
    pub fn all(&self) -> Vec<Arc<Token>> {
        self.tokens().values().cloned().collect()
    }

    /// Cuts the tokens of which this is so, and says how many.
    pub fn cut(&self, why: &str, is_so: impl Fn(&Token) -> bool) -> usize {
        let found: Vec<_> = self.all().into_iter().filter(|token| !token.cut.is_cancelled() && is_so(token)).collect();
        for token in &found {
            token.cut(why);
        }
        found.len()
    }

    /// Carries a connection that switched protocols, to its end.
    pub(super) fn carry(&self, carried: impl Future<Output = ()> + Send + 'static) {
        self.carried.spawn(carried);
    }

    /// Cuts everything, and waits until what was carried has its end: its records, and its recording.
    pub async fn end(&self, why: &str) {
        self.cut(why, |_| true);
        self.carried.close();
        let _ = tokio::time::timeout(PARTING, self.carried.wait()).await;
    }

    /// Forgets tokens that have ended and have nothing open.
    pub fn forget(&self, now: Timestamp) {
        self.tokens().retain(|_, token| token.open() > 0 || now < token.admission.expires);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::super::test_admission as admission;
    use super::*;

    struct Counting(AtomicU32);

    impl Admit for Counting {
        fn admit(&self, token: &str, now: Timestamp) -> Result<Admission, Refusal> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let admission = Admission { jti: token.to_owned(), ..admission(&[("view", "")]) };
            if now >= admission.expires {
                return Err(Refusal::Unauthenticated("it has ended".to_owned()));
            }
            Ok(admission)
        }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_token_is_judged_each_time_and_is_one_place_for_what_is_open_under_it() {
        let (live, admit) = (Live::default(), Counting(AtomicU32::new(0)));
        let first = live.enter(&admit, "a", at(1)).unwrap();
        drop(live.enter(&admit, "a", at(999)).unwrap());
        assert_eq!((admit.0.load(Ordering::SeqCst), first.token().open(), live.all().len()), (2, 1, 1));
        drop(live.enter(&admit, "b", at(2)).unwrap());
        assert_eq!(live.all().len(), 2, "another token is another's");
        assert!(live.enter(&admit, "a", at(1_000)).is_err(), "what the verifier refuses is refused, whatever is open");
        live.forget(at(1_000));
        assert_eq!(live.all().len(), 1, "what is open stays");
        drop(first);
        live.forget(at(1_000));
        assert!(live.all().is_empty());
    }

    #[test]
    fn what_is_cut_stays_cut_for_as_long_as_the_token_would_be_good() {
        let (live, admit) = (Live::default(), Counting(AtomicU32::new(0)));
        let open = live.enter(&admit, "a", at(1)).unwrap();
        let other = live.enter(&admit, "b", at(1)).unwrap();
        assert_eq!(live.cut("the grant was removed", |token| token.admission().jti == "a"), 1);
        assert!(open.cut().is_cancelled() && !other.cut().is_cancelled());
        drop(open);
        live.forget(at(2));
        let Err(Refusal::Unauthenticated(why)) = live.enter(&admit, "a", at(2)) else { panic!("it is cut") };
        assert!(why.contains("the grant was removed"), "{why}");
        assert_eq!(live.cut("again", |token| token.admission().jti == "a"), 0);
    }

    #[test]
    fn one_token_opens_only_so_many_requests() {
        let (live, admit) = (Live::default(), Counting(AtomicU32::new(0)));
        let mut places: Vec<_> = (0..OPEN_MAX).map(|_| live.enter(&admit, "a", at(1)).unwrap()).collect();
        assert!(live.enter(&admit, "a", at(1)).is_err());
        places.pop();
        assert!(live.enter(&admit, "a", at(1)).is_ok());
    }

    #[test]
    fn one_user_takes_only_so_many_places_and_a_token_is_known_by_its_id() {
        struct Named;
        impl Admit for Named {
            fn admit(&self, token: &str, _: Timestamp) -> Result<Admission, Refusal> {
                let mut words = token.split(' ');
                let (user, jti) = (words.next().unwrap(), words.next().unwrap().to_owned());
                let user_id = format!("usr_{user:0>26}").parse().unwrap();
                Ok(Admission { user_id, jti, ..admission(&[("view", "")]) })
            }
        }
        let live = Live::default();
        let open: Vec<_> =
            (0..TOKENS_OF_ONE_MAX).map(|id| live.enter(&Named, &format!("1 {id}"), at(1)).unwrap()).collect();
        let Err(Refusal::Unavailable(why)) = live.enter(&Named, "1 more", at(1)) else { panic!("too many") };
        assert!(why.contains("of your tokens"), "{why}");
        assert!(live.enter(&Named, "2 more", at(1)).is_ok(), "another user has places of their own");
        assert!(live.enter(&Named, "1 0", at(1)).is_ok(), "and a token that is in use goes on");
        drop(open);
        assert!(live.enter(&Named, "1 more", at(1_000)).is_ok(), "those that have ended make room");
        // The same token in another writing.
        live.cut("gone", |token| token.admission().jti == "more");
        assert!(live.enter(&Named, "1 more otherwise-signed", at(1)).is_err());
    }

    struct Once(AtomicU32);

    #[async_trait::async_trait]
    impl Confirm for Once {
        async fn confirm(&self, _: &Arc<Token>) -> Result<(), Refusal> {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => Err(Refusal::Unauthenticated("not now".to_owned())),
                _ => Ok(()),
            }
        }
    }

    #[tokio::test]
    async fn a_token_is_confirmed_until_it_was_once() {
        let (live, admit, once) = (Live::default(), Counting(AtomicU32::new(0)), Once(AtomicU32::new(0)));
        let place = live.enter(&admit, "a", at(1)).unwrap();
        assert!(place.confirm(&once).await.is_err());
        for _ in 0..3 {
            place.confirm(&once).await.unwrap();
        }
        assert_eq!(once.0.load(Ordering::SeqCst), 2);
        place.token().cut("meanwhile");
        assert!(place.confirm(&once).await.is_err());
    }
}
