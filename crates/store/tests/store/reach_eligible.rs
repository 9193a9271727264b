//! Eligible grants in a made-up estate: what is asked for and approved under them, and who may ask for what, by looking at everything.

use access::{Actor, Freshness, Grants, OpCtx, Role, member_ops, ops};
use domain::{
    Clock as _, DestinationKind, DestinationRole, Error, Grant, GrantId, Labels, SessionId, Slug, Subject, Target,
    Timestamp, UserId,
};
use store::{AccessPolicy, NewRequest};

use super::{Dice, Estate, People, Spot};
use crate::pair::Pair;

/// Something that was approved: the grant, and the eligible grant that it was asked for under.
pub(crate) struct Approved {
    grant: Grant,
    base: Option<GrantId>,
}

impl Approved {
    pub(crate) fn target(&mut self) -> &mut Target {
        &mut self.grant.target
    }
}

impl Estate {
    /// Whether an eligible grant lets somebody ask for a role in a namespace of a place, in the words of the documentation.
    fn lets(
        &self,
        people: &People,
        (user, spot): (usize, &Spot),
        base: &Grant,
        (role, namespace): (&DestinationRole, Option<&Slug>),
        now: Timestamp,
    ) -> bool {
        let is_named = match base.subject {
            Subject::User(id) => people.all[user].id == id,
            Subject::Group(id) => self.groups_of(people, user).contains_key(&id),
        };
        let within = base.namespace.is_none() || base.namespace.as_ref() == namespace;
        let has_sense = spot.kind == DestinationKind::Kubernetes || namespace.is_none();
        base.approval
            && self.is_member(people, user)
            && is_named
            && fits(base, spot)
            && within
            && has_sense
            && base.role == *role
            && base.expires_at.is_none_or(|end| now < end)
    }

    /// What gives somebody access at a place: what was granted without an approval, and of what was approved that whose eligible grant stands.
    pub(crate) fn giving(&self, people: &People, (user, spot): (usize, &Spot), now: Timestamp) -> Vec<Grant> {
        let at_once = self.grants.iter().filter(|grant| !grant.approval).cloned();
        let stands = |approved: &&Approved| {
            let Some(id) = approved.base else { return true };
            let base = self.grants.iter().find(|grant| grant.id == id);
            let asked = (&approved.grant.role, approved.grant.namespace.as_ref());
            base.is_some_and(|base| self.lets(people, (user, spot), base, asked, now))
        };
        let mut all: Vec<Grant> =
            at_once.chain(self.approved.iter().filter(stands).map(|one| one.grant.clone())).collect();
        all.sort_unstable_by_key(|grant| grant.id);
        all
    }

    /// Of what was approved, how much gives nothing any more although its time is not over.
    pub(crate) fn unfounded(&self, people: &People, now: Timestamp) -> usize {
        let is = |approved: &&Approved| {
            let at = self.spots.iter().find(|spot| spot.target() == approved.grant.target);
            let by = people.all.iter().position(|one| Subject::User(one.id) == approved.grant.subject);
            let (Some(spot), Some(user)) = (at, by) else { return true };
            approved.grant.expires_at.is_none_or(|end| now < end)
                && !self.giving(people, (user, spot), now).iter().any(|grant| grant.id == approved.grant.id)
        };
        self.approved.iter().filter(is).count()
    }

    /// How much was approved, and how much of it under an eligible grant.
    pub(crate) fn approvals(&self) -> (usize, usize) {
        (self.approved.len(), self.approved.iter().filter(|one| one.base.is_some()).count())
    }

    /// The tenant lets people ask only for what an eligible grant covers.
    pub(crate) async fn only_eligible(&mut self, pair: &Pair<'_>) {
        self.eligible_only = true;
        let policy = AccessPolicy { request_ms_max: 36_000_000, eligible_only: true, glass: None };
        pair.write::<ops::AccessPolicyPut>(self.tenant).await.access_policy_put(&policy).await.unwrap();
    }

    fn ctx(&self, pair: &Pair<'_>, (id, email): (UserId, &str), role: Role) -> OpCtx {
        let session = SessionId::generate(&*pair.clock, &*pair.rng);
        let actor = Actor::User { id, email: email.parse().unwrap(), session };
        let grants = Grants { platform_admin: false, tenants: vec![(self.tenant, role)] };
        let request = domain::RequestId::generate(&*pair.clock, &*pair.rng);
        OpCtx::user(actor, grants, request, None, pair.clock.clone(), pair.rng.clone()).with_freshness(Freshness::Fresh)
    }

    /// Somebody asks for something, and somebody else approves it: exactly where an eligible grant covers it, or anything may be asked for.
    pub(crate) async fn ask(&mut self, pair: &Pair<'_>, dice: &mut Dice, people: &People) {
        let user = dice.below(people.all.len());
        if !self.members.contains(&user) {
            return;
        }
        let (one, now) = (&people.all[user], pair.clock.now());
        let spot = dice.below(self.spots.len());
        let spot = &self.spots[spot];
        // Mostly something that may be asked for.
        let covered = |base: &&Grant| self.lets(people, (user, spot), base, (&base.role, base.namespace.as_ref()), now);
        let bases: Vec<&Grant> = self.grants.iter().filter(covered).collect();
        let (role, namespace) = match bases.as_slice() {
            [] => (dice.of(&super::ROLES).parse().unwrap(), None),
            some => {
                let base = dice.of(some);
                (base.role.clone(), base.namespace.clone().or_else(|| dice.once_in(2).then(|| "web".parse().unwrap())))
            }
        };
        let fit = |base: &&Grant| self.lets(people, (user, spot), base, (&role, namespace.as_ref()), now);
        let fit: Vec<Grant> = self.grants.iter().filter(fit).cloned().collect();
        let new = NewRequest {
            destination: spot.name.to_string(),
            role: role.clone(),
            namespace: namespace.clone(),
            duration_ms: 3_600_000 * (1 + i64::try_from(dice.below(9)).unwrap()),
            reason: "a pod hangs".to_owned(),
        };
        let ctx = self.ctx(pair, (one.id, &one.email), Role::ReadOnly);
        let permit = ctx.authorize_member::<member_ops::AccessRequestCreate>(self.tenant).unwrap();
        let asked = match pair.store.access_request_create(permit, &new).await {
            Ok(asked) => asked,
            Err(Error::Forbidden { message }) => {
                assert!(self.eligible_only && fit.is_empty(), "{message}");
                return;
            }
            Err(other) => panic!("{other}"),
        };
        assert_eq!(asked.eligible.is_some(), !fit.is_empty(), "an eligible grant that covers it counts");
        let base = asked.eligible.map(|id| fit.iter().find(|base| base.id == id).expect("one that covers it"));
        // Not by who asks.
        let own = self.ctx(pair, (one.id, &one.email), Role::TenantAdmin);
        let unit = pair.store.write(own.authorize::<ops::AccessRequestApprove>(self.tenant).unwrap()).await.unwrap();
        assert!(matches!(unit.access_request_approve(asked.id, None).await, Err(Error::Forbidden { .. })));
        let other = UserId::generate(&*pair.clock, &*pair.rng);
        let other = self.ctx(pair, (other, "approver@example.org"), Role::TenantAdmin);
        let unit = pair.store.write(other.authorize::<ops::AccessRequestApprove>(self.tenant).unwrap()).await.unwrap();
        let made = match unit.access_request_approve(asked.id, None).await {
            Ok(approved) => approved.grant.unwrap(),
            // A grant of nothing that has a sense there: what is said of hosts of a cluster, or of somebody who is gone.
            Err(Error::Invalid { .. }) if base.is_none() => return,
            Err(other) => panic!("{other}"),
        };
        let row = pair.read::<ops::GrantList>(self.tenant).await.grant_show(made).await.unwrap();
        let (ends, grant) = (now.plus_millis(new.duration_ms), row.grant);
        assert_eq!((row.rests_on, grant.approval), (asked.eligible, false));
        assert_eq!((&grant.role, &grant.namespace), (&role, &namespace));
        assert_eq!((&grant.subject, &grant.target), (&Subject::User(one.id), &spot.target()));
        let limits = base.map(|base| (base.hours.clone(), base.ssh.clone(), base.act_as.clone()));
        assert_eq!((grant.hours.clone(), grant.ssh.clone(), grant.act_as.clone()), limits.unwrap_or_default());
        assert_eq!(grant.expires_at, Some(base.and_then(|base| base.expires_at).map_or(ends, |end| end.min(ends))));
        self.approved.push(Approved { grant, base: asked.eligible });
    }

    /// Who may ask for what is told as it is.
    pub(crate) async fn eligible_agrees(&self, pair: &Pair<'_>, dice: &mut Dice, people: &People) {
        let (now, limit) = (pair.clock.now(), u32::try_from(1 + dice.below(4)).unwrap());
        let alive = |grant: &&Grant| grant.approval && grant.expires_at.is_none_or(|end| now < end);
        for (user, one) in people.all.iter().enumerate().filter(|(user, _)| self.members.contains(user)) {
            let groups = self.groups_of(people, user);
            let is_theirs = |grant: &&Grant| match grant.subject {
                Subject::User(id) => id == one.id,
                Subject::Group(id) => groups.contains_key(&id),
            };
            let all = self.grants.iter().filter(|_| self.is_member(people, user));
            let expected: Vec<GrantId> = all.filter(alive).filter(is_theirs).map(|grant| grant.id).collect();
            let found = crate::reach::pages(limit, async |after| {
                pair.read::<ops::AccessWhat>(self.tenant).await.eligible_what(&one.email, after, limit).await.unwrap()
            })
            .await;
            assert_eq!(found.iter().map(|row| row.grant.id).collect::<Vec<_>>(), expected, "{}", one.email);
            let ctx = self.ctx(pair, (one.id, &one.email), Role::ReadOnly);
            let own = crate::reach::pages(limit, async |after| {
                let permit = ctx.authorize_member::<member_ops::EligibleList>(self.tenant).unwrap();
                pair.store.eligible_list(permit, after, limit).await.unwrap()
            })
            .await;
            assert_eq!(own.iter().map(|row| row.grant.id).collect::<Vec<_>>(), expected, "{}", one.email);
        }
        for spot in &self.spots {
            let all = self.grants.iter().filter(alive).filter(|grant| fits(grant, spot));
            let expected: Vec<GrantId> = all.map(|grant| grant.id).collect();
            let found = crate::reach::pages(limit, async |after| {
                let mut unit = pair.read::<ops::AccessWho>(self.tenant).await;
                unit.eligible_who(spot.name.as_str(), after, limit).await.unwrap()
            })
            .await;
            assert_eq!(found.iter().map(|row| row.grant.id).collect::<Vec<_>>(), expected, "{}", spot.name);
        }
    }
}

/// Whether a grant is about a place, and has a sense there.
fn fits(grant: &Grant, spot: &Spot) -> bool {
    let has =
        |wanted: &Labels| wanted.as_map().iter().all(|(name, value)| spot.labels.as_map().get(name) == Some(value));
    let here = match &grant.target {
        Target::Destination(id) => *id == spot.id,
        Target::Labels(wanted) => spot.kind != DestinationKind::Set && has(wanted),
        Target::Set { id, .. } if spot.kind == DestinationKind::Set => *id == spot.id,
        Target::Set { hosts, .. } => spot.kind == DestinationKind::Ssh && has(hosts),
    };
    let has_sense = match spot.kind {
        DestinationKind::Kubernetes => grant.ssh.is_empty(),
        DestinationKind::Ssh | DestinationKind::Set => grant.namespace.is_none(),
    };
    here && has_sense
}
