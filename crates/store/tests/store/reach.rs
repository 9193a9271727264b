//! Who reaches what: the answers that read only what they need, against those that look at everything.

use std::time::Duration;

use access::grant::{Held, covers};
use access::ssh::{SshUse, stands};
use access::{Actor, Grants, OpCtx, Role, member_ops, ops};
use domain::{Clock as _, DestinationKind, DestinationRole, Error, Slug, Timestamp};
use store::{Page, Standing};

use crate::pair::{Pair, each_engine};
use crate::reach_estate::{Dice, Estate, People, Spot};

/// All pages of a list, each of which has as many items as were asked for.
pub(crate) async fn pages<T, K>(limit: u32, mut page: impl AsyncFnMut(Option<K>) -> Page<T, K>) -> Vec<T> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let next = page(after.take()).await;
        let full = u32::try_from(next.items.len()).unwrap() == limit;
        all.extend(next.items);
        match next.next {
            Some(key) => after = Some(key),
            None => return all,
        }
        assert!(full, "a page that is not the last one is full");
    }
}

/// What is compared: who or where, as what, and how.
type Line = (String, String, DestinationRole, Held);

async fn who_agrees(pair: &Pair<'_>, dice: &mut Dice, estate: &Estate, people: &People, spot: &Spot) -> usize {
    let now = pair.clock.now();
    let mut expected: Vec<Line> = Vec::new();
    for (user, one) in people.all.iter().enumerate() {
        let held = estate.held(people, user, spot, now);
        expected.extend(held.into_iter().map(|(role, held)| (one.email.clone(), spot.name.to_string(), role, held)));
    }
    expected.sort_by(|a, b| (&a.0, &a.2).cmp(&(&b.0, &b.2)));
    let limit = u32::try_from(1 + dice.below(7)).unwrap();
    let found = pages(limit, async |after| {
        let mut unit = pair.read::<ops::AccessWho>(estate.tenant).await;
        unit.access_who(spot.name.as_str(), after.as_ref(), limit).await.unwrap()
    })
    .await;
    for one in &found {
        assert!(one.grants.iter().map(|row| row.grant.id).eq(one.held.grants.iter().copied()), "each grant is told");
    }
    let found: Vec<Line> =
        found.into_iter().map(|one| (one.email, one.destination.name.to_string(), one.role, one.held)).collect();
    assert_eq!(found, expected, "who reaches {} with {:?}", spot.name, spot.labels);
    found.len()
}

/// The hosts of a set, by looking at every destination; and the edges of the graph, which follow.
async fn set_agrees(pair: &Pair<'_>, dice: &mut Dice, estate: &Estate, set: &Spot) {
    let Some(target) = set.as_set() else { return };
    let is_in = |spot: &&Spot| covers(&target, spot.place()) && spot.id != set.id;
    let mut expected: Vec<_> = estate.spots.iter().filter(is_in).map(|spot| spot.id).collect();
    expected.sort_unstable();
    assert!(
        expected
            .iter()
            .all(|id| { estate.spots.iter().any(|spot| spot.id == *id && spot.kind == DestinationKind::Ssh) })
    );
    let limit = u32::try_from(1 + dice.below(4)).unwrap();
    let found = pages(limit, async |after| {
        let mut unit = pair.read::<ops::HostSetShow>(estate.tenant).await;
        unit.host_set_hosts(set.name.as_str(), after, limit).await.unwrap()
    })
    .await;
    let found: Vec<_> = found.into_iter().map(|row| row.id).collect();
    assert_eq!(found, expected, "the hosts of {} with {:?}", set.name, set.labels);
    let shown = pair.read::<ops::HostSetShow>(estate.tenant).await.host_set_show(set.name.as_str()).await.unwrap();
    assert_eq!(shown.hosts, expected.len() as u64);
    // What was approved is a grant too, as long as the eligible one is there.
    let (fewest, most) = estate.granted(set, pair.clock.now());
    assert!((fewest..=most).contains(&shown.grants), "{} of {fewest} to {most}", shown.grants);
    let mut edges: Vec<_> = edges_of(pair, estate.tenant, &shown.destination.node()).await;
    edges.sort_unstable();
    assert_eq!(edges, expected, "what the graph says of {}", set.name);
}

/// The destinations that a node contains by the graph.
async fn edges_of(pair: &Pair<'_>, tenant: domain::TenantId, node: &domain::NodeId) -> Vec<domain::DestinationId> {
    let mut unit = pair.read::<ops::EdgeList>(tenant).await;
    let filter = store::EdgeFilter {
        node: Some(node.clone()),
        direction: store::EdgeDirection::Out,
        edge_type: Some("contains".parse().unwrap()),
        limit: 500,
        ..store::EdgeFilter::default()
    };
    let page = unit.edge_list(&filter).await.unwrap();
    page.items.iter().map(|edge| edge.target.resource().parse().unwrap()).collect()
}

async fn what_agrees(pair: &Pair<'_>, dice: &mut Dice, estate: &Estate, people: &People, user: usize) {
    let (now, one) = (pair.clock.now(), &people.all[user]);
    let limit = u32::try_from(1 + dice.below(7)).unwrap();
    if !estate.is_here(user) {
        let error =
            pair.read::<ops::AccessWhat>(estate.tenant).await.access_what(&one.email, None, limit).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { what: "member" }), "{error}");
        return;
    }
    let mut expected: Vec<Line> = Vec::new();
    // A set is not reached, its hosts are.
    for spot in estate.spots.iter().filter(|spot| spot.kind != DestinationKind::Set) {
        let held = estate.held(people, user, spot, now);
        expected.extend(held.into_iter().map(|(role, held)| (one.email.clone(), spot.name.to_string(), role, held)));
    }
    expected.sort_by(|a, b| (&a.1, &a.2).cmp(&(&b.1, &b.2)));
    let line = |one_email: &str, found: store::Reached| {
        assert!(found.grants.iter().map(|row| row.grant.id).eq(found.held.grants.iter().copied()));
        (one_email.to_owned(), found.destination.name.to_string(), found.role, found.held)
    };
    let found = pages(limit, async |after| {
        let mut unit = pair.read::<ops::AccessWhat>(estate.tenant).await;
        unit.access_what(&one.email, after.as_ref(), limit).await.unwrap()
    })
    .await;
    let found: Vec<Line> = found.into_iter().map(|found| line(&one.email, found)).collect();
    assert_eq!(found, expected, "what {} reaches", one.email);

    let actor = Actor::User { id: one.id, email: one.email.parse().unwrap(), session: one.session };
    let grants = Grants { platform_admin: false, tenants: vec![(estate.tenant, Role::ReadOnly)] };
    let request = domain::RequestId::generate(&*pair.clock, &*pair.rng);
    let ctx = OpCtx::user(actor, grants, request, None, pair.clock.clone(), pair.rng.clone());
    let own = pages(limit, async |after| {
        let permit = ctx.authorize_member::<member_ops::ReachList>(estate.tenant).unwrap();
        pair.store.reach_list(permit, after.as_ref(), limit).await.unwrap()
    })
    .await;
    let own: Vec<Line> = own.into_iter().map(|found| line(&one.email, found)).collect();
    assert_eq!(own, expected, "what {} is told", one.email);
}

/// Until when a connection stands, looking at everything.
fn stands_until(
    estate: &Estate,
    people: &People,
    (user, spot): (usize, &Spot),
    standing: &Standing,
    now: Timestamp,
) -> Option<Timestamp> {
    let groups = estate.groups_of(people, user);
    if !standing.groups.iter().all(|name| groups.values().any(|held| held == name)) {
        return None;
    }
    let held = estate.held(people, user, spot, now).remove(&standing.role)?;
    let covered = match (&held.namespaces, &standing.namespaces) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(held), Some(used)) => used.iter().all(|name| held.contains(name)),
    };
    let lasts = match spot.kind {
        DestinationKind::Kubernetes => Some(held.until.unwrap_or(Timestamp::from_millis(i64::MAX))),
        DestinationKind::Ssh => stands(&held, &access::ssh::SshBounds::default(), &standing.ssh),
        DestinationKind::Set => None,
    };
    lasts.filter(|_| covered)
}

async fn standings_agree(pair: &Pair<'_>, dice: &mut Dice, estates: &[Estate], people: &People) {
    let now = pair.clock.now();
    let (mut asked, mut expected) = (Vec::new(), Vec::new());
    for estate in estates {
        for (user, one) in people.all.iter().enumerate() {
            for spot in &estate.spots {
                let groups: Vec<Slug> = estate.groups_of(people, user).into_values().take(dice.below(3)).collect();
                let other = dice.once_in(9).then(|| "group-0".parse::<Slug>().unwrap());
                let standing = Standing {
                    tenant: estate.tenant,
                    user: one.id,
                    name: None,
                    session: if dice.once_in(9) { people.all[0].session } else { one.session },
                    destination: spot.id,
                    role: dice.of(&["deploy", "view"]).parse().unwrap(),
                    namespaces: dice.once_in(2).then(|| vec!["shop".parse().unwrap()]),
                    act_as: Vec::new(),
                    groups: groups.into_iter().chain(other).collect(),
                    ssh: SshUse::default(),
                };
                let own_session = standing.session == one.session;
                let until = stands_until(estate, people, (user, spot), &standing, now).filter(|_| own_session);
                // The session itself lasts for an hour of silence, which is not over here.
                expected.push(until.is_some());
                asked.push(standing);
            }
        }
    }
    let together = pair.store.standing_until(&asked).await.unwrap();
    for ((standing, found), expected) in asked.iter().zip(&together).zip(expected) {
        assert_eq!(found.is_some(), expected, "{standing:?}");
    }
    for _ in 0..8 {
        let at = dice.below(asked.len());
        let alone = pair.store.standing_until(&asked[at..=at]).await.unwrap();
        assert_eq!(alone, together[at..=at], "{:?}", asked[at]);
    }
}

async fn all_agree(pair: &Pair<'_>, dice: &mut Dice, estates: &[Estate], people: &People) {
    let mut reached = 0;
    for estate in estates {
        for spot in &estate.spots {
            reached += who_agrees(pair, dice, estate, people, spot).await;
            set_agrees(pair, dice, estate, spot).await;
        }
        for user in 0..people.all.len() {
            what_agrees(pair, dice, estate, people, user).await;
        }
        estate.eligible_agrees(pair, dice, people).await;
    }
    assert!(reached > 20, "an estate in which hardly anything is reached shows nothing: {reached}");
    standings_agree(pair, dice, estates, people).await;
}

async fn an_estate_agrees_while_it_changes(pair: &Pair<'_>, dice: &mut Dice) {
    let mut people = People::new(pair, dice, 14).await;
    let mut estates =
        [Estate::new(pair, dice, pair.a, &people, 60).await, Estate::new(pair, dice, pair.b, &people, 40).await];
    all_agree(pair, dice, &estates, &people).await;
    let mut unfounded = 0;
    for _ in 0..3 {
        pair.clock.advance(Duration::from_mins(13));
        for estate in &mut estates {
            estate.change(pair, dice, &people).await;
        }
        people.change(pair, dice).await;
        people.come(pair).await;
        all_agree(pair, dice, &estates, &people).await;
        unfounded += estates.iter().map(|estate| estate.unfounded(&people, pair.clock.now())).sum::<usize>();
    }
    assert!(
        unfounded > 3,
        "of what was approved hardly anything ended with its eligible grant: {unfounded} of {:?}",
        estates.each_ref().map(Estate::approvals)
    );
    // Hours close, and much expires.
    pair.clock.advance(Duration::from_hours(8));
    people.come(pair).await;
    all_agree(pair, dice, &estates, &people).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reads_only_what_it_needs_says_what_looking_at_everything_says() {
    for seed in [5, 11] {
        each_engine(async |pair| an_estate_agrees_while_it_changes(pair, &mut Dice(seed)).await).await;
    }
}
