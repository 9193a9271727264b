//! Asks the server whether what is open may stay open.
//!
//! Invariants:
//! - a question that fails leaves no other one unasked: who makes one that the server does not take keeps nobody else from being judged;
//! - what was not answered about is told apart from what the server says no to: the caller ends it in its own time.

use std::collections::VecDeque;

use async_trait::async_trait;
use domain::Timestamp;
use wire::destination::{AccessCheck, AccessChecked, Standing};

/// How many are asked about in one question, and of how many bytes: far below what the server takes, so that an answer comes soon.
const QUESTION_MAX: usize = 200;
const QUESTION_BYTES: usize = 256 * 1_024;
/// How many questions are asked again in halves each time, to find which of them the server does not take.
const SPLITS_MAX: usize = 64;
/// After so many in a row that nobody answered, nobody is asked.
const SILENT_MAX: usize = 2;

/// Who asks the server.
#[async_trait]
pub(crate) trait Ask: Send + Sync {
    /// Asks once, and waits for no longer than an answer is worth.
    async fn ask(&self, check: AccessCheck) -> anyhow::Result<AccessChecked>;
}

/// Whether the server answered that this relay has nothing to do with what it asks about, or with anything.
pub(crate) fn is_final(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(fleet::Error::Refused { status: 401, code, .. }) => code == "unauthenticated",
        Some(fleet::Error::Refused { status, .. }) => matches!(status, 403 | 404 | 409),
        _ => false,
    }
}

/// Whether it is this question that the server does not take, and not any.
fn is_about_it(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(fleet::Error::Refused { status: 400 | 413 | 422 | 500, .. }))
}

fn questions<T>(open: Vec<(T, Standing)>) -> VecDeque<Vec<(T, Standing)>> {
    let (mut all, mut bytes) = (VecDeque::<Vec<_>>::new(), 0);
    for (of, standing) in open {
        // What cannot be written is refused where it is sent.
        let length = serde_json::to_vec(&standing).map_or(0, |text| text.len());
        let fits = |last: &&mut Vec<_>| last.len() < QUESTION_MAX && bytes + length <= QUESTION_BYTES;
        if let Some(last) = all.back_mut().filter(fits) {
            bytes += length;
            last.push((of, standing));
        } else {
            bytes = length;
            all.push_back(vec![(of, standing)]);
        }
    }
    all
}

/// Asks about all of these. Of each that was judged: until when it may stay open, or none: not any more. The others are not there.
///
/// # Errors
/// The server's answer that this relay may not ask at all ([`is_final`]).
pub(crate) async fn judge<T>(
    open: Vec<(T, Standing)>,
    server: &dyn Ask,
) -> anyhow::Result<Vec<(T, Option<Timestamp>)>> {
    let (mut judged, mut waiting) = (Vec::with_capacity(open.len()), questions(open));
    let (mut splits, mut silent) = (SPLITS_MAX, 0);
    while let Some(mut some) = waiting.pop_front() {
        let standings = some.iter().map(|(_, standing)| standing.clone()).collect();
        let error = match server.ask(AccessCheck { standings }).await {
            Ok(told) if told.until.len() == some.len() => {
                silent = 0;
                judged.extend(some.into_iter().zip(told.until).map(|((of, _), until)| (of, until)));
                continue;
            }
            Ok(_) => anyhow::anyhow!("the server answers something else"),
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => error,
        };
        tracing::warn!(error = format!("{error:#}"), of = some.len(), "nobody says what may stay open");
        if !is_about_it(&error) {
            silent += 1;
            if silent >= SILENT_MAX {
                break;
            }
        } else if some.len() > 1 && splits > 0 {
            splits -= 1;
            let rest = some.split_off(some.len() / 2);
            waiting.push_front(rest);
            waiting.push_front(some);
        }
    }
    Ok(judged)
}

/// A server of tests.
#[cfg(test)]
pub(crate) struct By<F>(pub(crate) F);

#[cfg(test)]
#[async_trait]
impl<F: Fn(AccessCheck) -> anyhow::Result<AccessChecked> + Send + Sync> Ask for By<F> {
    async fn ask(&self, check: AccessCheck) -> anyhow::Result<AccessChecked> {
        (self.0)(check)
    }
}

/// What it says no with.
#[cfg(test)]
pub(crate) fn refused(status: u16) -> anyhow::Error {
    let (code, message, request) = ("x".to_owned(), String::new(), String::new());
    fleet::Error::Refused { status, code, message, request, wait_s: None }.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use domain::Slug;

    use super::*;

    fn standing(user: usize, namespaces: usize) -> Standing {
        Standing {
            user: format!("usr_{user:026}").parse().unwrap(),
            name: None,
            session: format!("ses_{}", "0".repeat(26)).parse().unwrap(),
            destination: format!("dst_{}", "0".repeat(26)).parse().unwrap(),
            role: "view".parse().unwrap(),
            namespaces: Some((0..namespaces).map(|at| format!("namespace-{at}").parse::<Slug>().unwrap()).collect()),
            act_as: Vec::new(),
            groups: Vec::new(),
            ssh: None,
        }
    }

    fn told(check: &AccessCheck) -> AccessChecked {
        AccessChecked { until: vec![Some(Timestamp::from_millis(5)); check.standings.len()] }
    }

    #[tokio::test]
    async fn a_question_is_never_longer_than_the_server_takes_and_all_are_asked_about() {
        let longest = Mutex::new((0, 0));
        let server = By(|check: AccessCheck| {
            let bytes = serde_json::to_vec(&check).unwrap().len();
            let mut longest = longest.lock().unwrap();
            *longest = (longest.0.max(bytes), longest.1.max(check.standings.len()));
            Ok(told(&check))
        });
        let judged = judge((0..700).map(|at| (at, standing(at, 150))).collect(), &server).await.unwrap();
        let of: Vec<_> = judged.into_iter().map(|(of, _)| of).collect();
        assert_eq!(of, (0..700).collect::<Vec<_>>());
        let (bytes, count) = *longest.lock().unwrap();
        assert!(bytes < 300 * 1_024 && count <= QUESTION_MAX, "{bytes} {count}");
    }

    #[tokio::test]
    async fn one_that_the_server_does_not_take_keeps_no_other_from_being_judged() {
        for status in [400, 413, 422, 500] {
            let bad = standing(77, 1);
            let server = By(
                |check: AccessCheck| {
                    if check.standings.contains(&bad) { Err(refused(status)) } else { Ok(told(&check)) }
                },
            );
            let judged = judge((0..450).map(|at| (at, standing(at, 1))).collect(), &server).await.unwrap();
            let of: Vec<_> = judged.into_iter().map(|(of, _)| of).collect();
            assert_eq!(of, (0..450).filter(|at| *at != 77).collect::<Vec<_>>(), "{status}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_asked_twice_and_one_that_says_no_once() {
        let open = || (0..1_000).map(|at| ((), standing(at, 1))).collect();
        for status in [None, Some(429), Some(503)] {
            let times = Mutex::new(0);
            let server = By(|_: AccessCheck| {
                *times.lock().unwrap() += 1;
                Err(status.map_or_else(|| anyhow::anyhow!("no connection"), refused))
            });
            assert!(judge(open(), &server).await.unwrap().is_empty());
            assert_eq!(*times.lock().unwrap(), SILENT_MAX);
        }
        let times = Mutex::new(0);
        let server = By(|_: AccessCheck| {
            *times.lock().unwrap() += 1;
            Err(refused(409))
        });
        assert!(is_final(&judge(open(), &server).await.unwrap_err()));
        assert_eq!(*times.lock().unwrap(), 1);
    }
}
