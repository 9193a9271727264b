//! What becomes of what is open while the server answers, does not answer, or answers about some only. Time stands still but where a test moves it.

use std::sync::atomic::{AtomicUsize, Ordering};

use gateway::kubernetes::{Granted, Place};

use super::*;
use crate::standing::{By, refused};

const ROUND: Duration = Duration::from_secs(1);

/// Lets in whoever says `USER LIFETIME_S`, for so long from the beginning of time.
struct Door;

impl Admit for Door {
    fn admit(&self, token: &str, _: Timestamp) -> Result<Admission, Refusal> {
        let mut words = token.split(' ');
        let user = words.next().unwrap();
        Ok(Admission {
            destination: destination(),
            user: user.to_owned(),
            user_id: format!("usr_{user:0>26}").parse().unwrap(),
            groups: words.clone().skip(1).map(str::to_owned).collect(),
            grants: vec![Granted { role: "view".to_owned(), namespace: None }],
            act_as: Vec::new(),
            session: format!("ses_{}", "0".repeat(26)).parse().unwrap(),
            jti: token.to_owned(),
            expires: Timestamp::from_millis(words.next().unwrap().parse::<i64>().unwrap() * 1_000),
        })
    }
}

fn destination() -> DestinationId {
    format!("dst_{}", "0".repeat(26)).parse().unwrap()
}

struct World {
    live: Live,
    begun: Instant,
}

impl World {
    fn new() -> Self {
        Self { live: Live::default(), begun: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.begun.elapsed().as_millis()).unwrap())
    }

    fn enter(&self, token: &str) -> Place {
        self.live.enter(&Door, token, self.now()).unwrap()
    }

    /// Looks once a second for so long.
    async fn looks(&self, seconds: u32, ask: impl Fn(AccessCheck) -> anyhow::Result<AccessChecked> + Send + Sync) {
        let server = By(ask);
        for _ in 0..seconds {
            tokio::time::advance(ROUND).await;
            look(&self.live, Some(destination()), self.now(), &server).await;
        }
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_no_to_is_cut_also_where_it_takes_no_question_about_another_one() {
    let world = World::new();
    let (bad, gone, good) = (world.enter("1 300"), world.enter("2 300"), world.enter("3 300"));
    let user = |place: &Place| place.token().admission().user_id;
    for status in [400, 413, 500] {
        let ask = |check: AccessCheck| {
            if check.standings.iter().any(|one| one.user == user(&bad)) {
                return Err(refused(status));
            }
            let until = check.standings.iter().map(|one| if one.user == user(&gone) { None } else { Some(at(9_000)) });
            Ok(AccessChecked { until: until.collect() })
        };
        world.looks(1, ask).await;
        assert!(gone.cut().is_cancelled(), "{status}");
        assert!(!good.cut().is_cancelled() && !bad.cut().is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn whom_nobody_says_anything_about_goes_by_the_last_word_and_then_by_the_token_whatever_else_is_answered() {
    let world = World::new();
    let (until, token, judged) = (world.enter("1 300"), world.enter("2 30"), world.enter("3 30"));
    world
        .looks(1, |check: AccessCheck| {
            let until = check
                .standings
                .iter()
                .map(|one| if one.user == until.token().admission().user_id { Some(at(20)) } else { Some(at(9_000)) });
            Ok(AccessChecked { until: until.collect() })
        })
        .await;
    // From now on the server answers about one of them only: that this one may stay counts for no other.
    let ask = |check: AccessCheck| match check.standings.as_slice() {
        [one] if one.user == judged.token().admission().user_id => Ok(AccessChecked { until: vec![Some(at(9_000))] }),
        _ => Err(refused(500)),
    };
    world.looks(18, &ask).await;
    assert!(!until.cut().is_cancelled(), "it stands for another second");
    world.looks(1, &ask).await;
    assert!(until.cut().is_cancelled() && !token.cut().is_cancelled());
    world.looks(46, &ask).await;
    assert!(!token.cut().is_cancelled(), "the token ended at 30 s, and a server may be away for a minute");
    world.looks(2, &ask).await;
    assert!(token.cut().is_cancelled() && !judged.cut().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn tokens_of_one_session_are_one_question_and_what_is_found_holds_for_all() {
    let world = World::new();
    let places = [world.enter("1 30"), world.enter("1 31"), world.enter("1 32")];
    let asked = AtomicUsize::new(0);
    world
        .looks(1, |check: AccessCheck| {
            asked.fetch_add(check.standings.len(), Ordering::SeqCst);
            Ok(AccessChecked { until: vec![Some(at(9_000)); check.standings.len()] })
        })
        .await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    world.looks(1, |check: AccessCheck| Ok(AccessChecked { until: vec![None; check.standings.len()] })).await;
    assert!(places.iter().all(|place| place.cut().is_cancelled()));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_comes_while_nobody_can_be_asked_lengthens_nothing_that_rests_on_the_same() {
    let world = World::new();
    let open = world.enter("1 300");
    world.looks(1, |check: AccessCheck| Ok(AccessChecked { until: vec![Some(at(9)); check.standings.len()] })).await;
    let (later, silent) = (world.enter("1 301"), |_: AccessCheck| Err(refused(503)));
    world.looks(7, silent).await;
    assert!(!open.cut().is_cancelled(), "it stands until then");
    let newcomer = world.enter("1 302");
    world.looks(1, silent).await;
    assert!([&open, &later, &newcomer].into_iter().all(|place| place.cut().is_cancelled()));
}

#[tokio::test(start_paused = true)]
async fn whom_slow_answers_left_unasked_is_asked_first_the_next_time() {
    let world = World::new();
    let many: Vec<_> = (0..900).map(|user| world.enter(&format!("{user} 300"))).collect();
    // Whose questions come first is nobody's choice: two in a row are not answered, and the rest is not asked.
    let times = AtomicUsize::new(0);
    let asked = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let server = |check: AccessCheck| {
        let time = times.fetch_add(1, Ordering::SeqCst);
        if !time.is_multiple_of(3) {
            anyhow::bail!("the server did not answer in time");
        }
        asked.lock().unwrap().extend(check.standings.iter().map(|one| one.user));
        Ok(AccessChecked { until: vec![Some(at(9_000)); check.standings.len()] })
    };
    world.looks(5, server).await;
    assert_eq!(asked.lock().unwrap().len(), many.len());
}

#[tokio::test(start_paused = true)]
async fn a_group_that_the_cluster_is_told_of_is_part_of_what_is_asked() {
    let world = World::new();
    let (told, other) = (world.enter("1 300 devs"), world.enter("1 301"));
    world
        .looks(1, |check: AccessCheck| {
            // As the one that the cluster knows them by.
            assert!(check.standings.iter().all(|one| one.name.as_deref() == Some("1")));
            let until = check.standings.iter().map(|one| if one.groups.is_empty() { Some(at(9_000)) } else { None });
            Ok(AccessChecked { until: until.collect() })
        })
        .await;
    assert!(told.cut().is_cancelled() && !other.cut().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn one_question_that_is_not_answered_in_time_does_not_keep_the_next_from_being_asked() {
    let world = World::new();
    let many: Vec<_> = (0..450).map(|user| world.enter(&format!("{user} 300"))).collect();
    let asked = AtomicUsize::new(0);
    world
        .looks(1, |check: AccessCheck| {
            if asked.fetch_add(1, Ordering::SeqCst) == 0 {
                anyhow::bail!("the server did not answer in time");
            }
            Ok(AccessChecked { until: vec![None; check.standings.len()] })
        })
        .await;
    let cut = many.iter().filter(|place| place.cut().is_cancelled()).count();
    assert_eq!(cut, 250, "all but the first question's");
}
