//! What becomes of open connections by what the server says of them. Time stands still but where a test moves it.

use super::*;
use crate::standing::{By, refused};

fn open(user: u32, until_s: i64, token_s: i64) -> Arc<Open> {
    let word = Word::default();
    word.say(at(until_s));
    Arc::new(Open {
        standing: Standing {
            user: format!("usr_{user:026}").parse().unwrap(),
            name: None,
            session: format!("ses_{}", "0".repeat(26)).parse().unwrap(),
            destination: format!("dst_{}", "0".repeat(26)).parse().unwrap(),
            role: "deploy".parse().unwrap(),
            namespaces: None,
            act_as: Vec::new(),
            groups: Vec::new(),
            ssh: None,
        },
        cut: Arc::default(),
        word,
        token_expires: at(token_s),
    })
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

/// Looks once a second, from one time to another.
async fn looks(
    open: &[Arc<Open>],
    (from, to): (i64, i64),
    ask: impl Fn(AccessCheck) -> anyhow::Result<AccessChecked> + Send + Sync,
) {
    let server = By(ask);
    for now in from..to {
        tokio::time::advance(CHECK).await;
        look(open, at(now), &server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_the_server_does_not_take_cuts_nobody_and_keeps_nobody_from_being_cut() {
    for status in [400, 413, 500] {
        let all = [open(1, 900, 300), open(2, 900, 300), open(3, 900, 300)];
        let ask = |check: AccessCheck| {
            if check.standings.contains(&all[0].standing) {
                return Err(refused(status));
            }
            let until = check.standings.iter().map(|one| (*one != all[1].standing).then(|| at(900)));
            Ok(AccessChecked { until: until.collect() })
        };
        looks(&all, (1, 2), ask).await;
        let cut: Vec<_> = all.iter().map(|open| open.cut.why()).collect();
        assert_eq!(cut, [None, Some(GONE), None], "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_word_it_ends_by_the_last_one_and_then_with_its_token() {
    let all = [open(1, 20, 300), open(2, 900, 30), open(3, 900, 30)];
    // Only about the third the server still says something.
    let ask = |check: AccessCheck| match check.standings.as_slice() {
        [one] if *one == all[2].standing => Ok(AccessChecked { until: vec![Some(at(900))] }),
        _ => Err(refused(500)),
    };
    let cut = || all.each_ref().map(|open| open.cut.why().is_some());
    looks(&all, (1, 20), ask).await;
    assert_eq!(cut(), [false, false, false]);
    looks(&all, (20, 21), ask).await;
    assert_eq!(cut(), [true, false, false]);
    looks(&all, (21, 60), ask).await;
    assert_eq!(cut(), [true, false, false], "the token ended at 30 s, and a server may be away for a minute");
    looks(&all, (60, 63), ask).await;
    assert_eq!(cut(), [true, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_may_not_ask_takes_nobody_anywhere_any_more() {
    let all = [open(1, 900, 300), open(2, 900, 300)];
    looks(&all, (1, 2), |_| Err(refused(409))).await;
    assert!(all.iter().all(|open| open.cut.why().is_some()));
}
