//! Estates made up at random, of users, groups, destinations and grants; and who reaches what in them, by looking at everything.

use std::collections::{BTreeMap, BTreeSet};

use access::grant::{Asker, Held, Place, decide};
use access::{OpCtx, ops};
use domain::{
    ActAs, DestinationId, DestinationKind, DestinationRole, Grant, GroupId, Labels, ProviderId, SessionId, Slug,
    SshTerms, Target, TenantId, Timestamp, UserId,
};
use store::{DestinationChange, NewGrant, NewProvider, NewSshHost, SubjectName, TargetName};
use uuid::Uuid;

use crate::pair::Pair;

#[path = "reach_eligible.rs"]
mod eligible;

/// Numbers that follow from a seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }

    /// Once in so many times.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn id(&mut self) -> Uuid {
        Uuid::from_u128((0..4).fold(0, |bits, _| bits << 31 | self.below(1 << 31) as u128))
    }
}

/// Values with what an index by texts could stumble over.
const VALUES: [&str; 6] = ["prod", "a,b", "a\"b", "}", "", "é\\"];
const NAMES: [&str; 3] = ["a", "env", "zone"];
const ROLES: [&str; 2] = ["deploy", "view"];
const HOURS: [&str; 3] = ["thu 00:00-12:00", "thu,fri 06:00-18:00", "mon-sun 00:00-24:00"];
const NAMED: [&str; 3] = ["ops", "staff", "s\"q,"];

/// Somebody, in whatever tenants.
#[derive(Clone)]
pub(crate) struct Somebody {
    pub(crate) id: UserId,
    pub(crate) email: String,
    pub(crate) session: SessionId,
    pub(crate) disabled: bool,
    /// What their last token named, and at which provider.
    named: Option<(usize, BTreeSet<String>)>,
    /// At which provider they are provisioned, and with which groups; whether they are active.
    provisioned: Option<(usize, BTreeSet<String>, bool)>,
}

/// Everybody, and the providers: the second one provisions groups, at first.
pub(crate) struct People {
    pub(crate) all: Vec<Somebody>,
    provisions: bool,
}

struct Group {
    id: GroupId,
    name: Slug,
    kept: BTreeSet<usize>,
    fed: Option<(usize, String)>,
}

pub(crate) struct Spot {
    pub(crate) id: DestinationId,
    pub(crate) name: Slug,
    pub(crate) kind: DestinationKind,
    /// Of a set: what its hosts have.
    pub(crate) labels: Labels,
    none: Labels,
}

impl Spot {
    pub(crate) fn place(&self) -> Place<'_> {
        let labels = if self.kind == DestinationKind::Set { &self.none } else { &self.labels };
        Place { id: self.id, kind: self.kind, labels }
    }

    /// What a grant that names it is about.
    pub(crate) fn target(&self) -> Target {
        self.as_set().unwrap_or(Target::Destination(self.id))
    }

    pub(crate) fn as_set(&self) -> Option<Target> {
        (self.kind == DestinationKind::Set).then(|| Target::set(self.id, self.labels.clone()).unwrap())
    }
}

/// A tenant.
pub(crate) struct Estate {
    pub(crate) tenant: TenantId,
    members: BTreeSet<usize>,
    groups: Vec<Group>,
    pub(crate) spots: Vec<Spot>,
    grants: Vec<Grant>,
    approved: Vec<eligible::Approved>,
    eligible_only: bool,
}

fn labels(dice: &mut Dice, most: usize) -> Labels {
    let count = dice.below(most) + 1;
    let pairs = (0..count).map(|_| ((*dice.of(&NAMES)).to_owned(), (*dice.of(&VALUES)).to_owned()));
    Labels::new(pairs.collect()).unwrap()
}

fn some(dice: &mut Dice) -> BTreeSet<String> {
    NAMED.iter().filter(|_| dice.once_in(2)).map(|name| (*name).to_owned()).collect()
}

impl Pair<'_> {
    async fn sql(&self, tenant: TenantId, sql: String) {
        self.raw(tenant, &sql).await.unwrap();
    }

    fn lit(&self, id: Uuid) -> String {
        if self.postgres().is_some() { format!("'{id}'::uuid") } else { format!("x'{}'", id.simple()) }
    }
}

async fn provider(pair: &Pair<'_>, name: &str) -> ProviderId {
    let new = NewProvider {
        name: name.parse().unwrap(),
        title: "Provider".parse().unwrap(),
        issuer: format!("https://{name}.example"),
        client_id: "cairn".to_owned(),
        client_secret: domain::Secret::new(testkit::logs::plant(&format!("reach-{name}")).as_str()),
        scopes: "openid".to_owned(),
        groups_claim: "groups".to_owned(),
        email_domains: String::new(),
    };
    let ctx = OpCtx::system_platform("test", pair.clock.clone(), pair.rng.clone());
    pair.store.provider_create(ctx.authorize_platform().unwrap(), &new).await.unwrap().id
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl People {
    pub(crate) async fn new(pair: &Pair<'_>, dice: &mut Dice, count: usize) -> Self {
        let providers = [provider(pair, "corp").await, provider(pair, "dir").await];
        let ids = NAMED.map(|_| dice.id());
        for (id, name) in ids.iter().zip(NAMED) {
            let sql = format!(
                "INSERT INTO scim_group (provider_id, id, display_name, display_name_key, version, created_at, changed_at) \
                 VALUES ({}, {}, {name}, {name}, 1, 0, 0)",
                pair.lit(providers[1].as_uuid()),
                pair.lit(*id),
                name = quoted(name),
            );
            pair.sql(pair.a, sql).await;
        }
        let mut all = Vec::new();
        for n in 0..count {
            // Not in the order of the ids; with what languages sort in other ways than bytes.
            let email = format!("{}{}@example.org", dice.of(&["a-", "a", "b.", "b/", "a_"]), 97 * n % 101);
            let (id, session) = (UserId::from_uuid(dice.id()), SessionId::from_uuid(dice.id()));
            let named = dice.once_in(2).then(|| (dice.below(2), some(dice)));
            let provisioned = dice.once_in(2).then(|| (1, some(dice), !dice.once_in(4)));
            let user = pair.lit(id.as_uuid());
            let made = format!(
                "INSERT INTO app_user (id, email, name, password_hash, must_change_password, platform_admin, created_at) \
                 VALUES ({user}, {}, 'n', 'none', FALSE, FALSE, 0)",
                quoted(&email)
            );
            pair.sql(pair.a, made).await;
            let at = |provider: usize| pair.lit(providers[provider].as_uuid());
            if let Some((provider, groups)) = &named {
                let groups = quoted(&serde_json::to_string(groups).unwrap());
                let provider = at(*provider);
                let sql = format!(
                    "INSERT INTO identity (provider_id, subject, user_id, groups, asked_at, checked_at, created_at) \
                     VALUES ({provider}, 's{n}', {user}, {groups}, 0, 0, 0)"
                );
                pair.sql(pair.a, sql).await;
            }
            if let Some((provider, groups, active)) = &provisioned {
                let provider = at(*provider);
                let sql = format!(
                    "INSERT INTO scim_user (provider_id, user_id, user_name, user_name_key, active, document, version, created_at, changed_at) \
                     VALUES ({provider}, {user}, 'u{n}', 'u{n}', {active}, '{{}}', 1, 0, 0)"
                );
                pair.sql(pair.a, sql).await;
                for (group, _) in ids.iter().zip(NAMED).filter(|(_, name)| groups.contains(*name)) {
                    let group = pair.lit(*group);
                    let sql = format!(
                        "INSERT INTO scim_group_member (provider_id, group_id, user_id) VALUES ({provider}, {group}, {user})"
                    );
                    pair.sql(pair.a, sql).await;
                }
            }
            let now = domain::Clock::now(&*pair.clock).as_millis();
            let sql = format!(
                "INSERT INTO session (id, user_id, created_at, expires_at, last_used_at) VALUES ({}, {user}, {now}, {}, {now})",
                pair.lit(session.as_uuid()),
                now + 86_400_000 * 30,
            );
            pair.sql(pair.a, sql).await;
            all.push(Somebody { id, email, session, disabled: false, named, provisioned });
        }
        Self { all, provisions: true }
    }

    /// Everybody's session was used just now.
    pub(crate) async fn come(&self, pair: &Pair<'_>) {
        let now = domain::Clock::now(&*pair.clock).as_millis();
        pair.sql(pair.a, format!("UPDATE session SET last_used_at = {now}")).await;
    }

    /// Somebody is disabled, another one made inactive by the provider, and at last it provisions no groups any more.
    pub(crate) async fn change(&mut self, pair: &Pair<'_>, dice: &mut Dice) {
        let at = dice.below(self.all.len());
        self.all[at].disabled = true;
        let user = pair.lit(self.all[at].id.as_uuid());
        pair.sql(pair.a, format!("UPDATE app_user SET disabled_at = 1 WHERE id = {user}")).await;
        let at = dice.below(self.all.len());
        let user = pair.lit(self.all[at].id.as_uuid());
        if let Some((_, _, active)) = &mut self.all[at].provisioned {
            *active = false;
            pair.sql(pair.a, format!("UPDATE scim_user SET active = FALSE WHERE user_id = {user}")).await;
        }
        if dice.once_in(3) && self.provisions {
            self.provisions = false;
            pair.sql(pair.a, "DELETE FROM scim_group_member".to_owned()).await;
            pair.sql(pair.a, "DELETE FROM scim_group".to_owned()).await;
        }
    }

    fn is_in(&self, user: usize, provider: usize, name: &str) -> bool {
        let one = &self.all[user];
        let provisioned = one.provisioned.as_ref().filter(|(at, ..)| *at == provider);
        if provisioned.is_some_and(|(.., active)| !active) {
            return false;
        }
        if provider == 1 && self.provisions {
            return provisioned.is_some_and(|(_, groups, _)| groups.contains(name));
        }
        one.named.as_ref().is_some_and(|(at, groups)| *at == provider && groups.contains(name))
    }
}

impl Estate {
    pub(crate) async fn new(
        pair: &Pair<'_>,
        dice: &mut Dice,
        tenant: TenantId,
        people: &People,
        grants: usize,
    ) -> Self {
        let mut members = BTreeSet::new();
        for (at, one) in people.all.iter().enumerate() {
            if !dice.once_in(5) {
                members.insert(at);
                let (tenant_id, user) = (pair.lit(tenant.as_uuid()), pair.lit(one.id.as_uuid()));
                let sql = format!(
                    "INSERT INTO member (tenant_id, user_id, role, created_at) VALUES ({tenant_id}, {user}, 'read-only', 0)"
                );
                pair.sql(tenant, sql).await;
            }
        }
        let (groups, spots, grants_made, approved) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut estate = Self { tenant, members, groups, spots, grants: grants_made, approved, eligible_only: false };
        if dice.once_in(2) {
            estate.only_eligible(pair).await;
        }
        for n in 0..6 {
            estate.group(pair, dice, people, n).await;
        }
        for n in 0..9 {
            estate.spot(pair, dice, n).await;
        }
        for n in 0..3 {
            let (name, selector) = (format!("set-{n}").parse::<Slug>().unwrap(), labels(dice, 2));
            let made =
                pair.write::<ops::HostSetPut>(tenant).await.host_set_put(name.as_str(), &selector).await.unwrap();
            let id = made.destination.id;
            estate.spots.push(Spot { id, name, kind: DestinationKind::Set, labels: selector, none: Labels::default() });
        }
        for _ in 0..grants {
            estate.grant(pair, dice, people).await;
        }
        for _ in 0..20 {
            estate.ask(pair, dice, people).await;
        }
        estate
    }

    async fn group(&mut self, pair: &Pair<'_>, dice: &mut Dice, people: &People, n: usize) {
        let name: Slug = format!("group-{n}").parse().unwrap();
        let fed = (n % 2 == 1).then(|| (dice.below(2), (*dice.of(&NAMED)).to_owned()));
        let providers = ["corp", "dir"];
        let by = fed.as_ref().map(|(provider, group)| (providers[*provider], group.as_str()));
        let unit = pair.write::<ops::GroupCreate>(self.tenant).await;
        let id = unit.group_create(&name, by).await.unwrap().id;
        let mut kept = BTreeSet::new();
        for at in self.members.iter().copied().filter(|_| fed.is_none()) {
            if dice.once_in(3) {
                kept.insert(at);
                let unit = pair.write::<ops::GroupMemberAdd>(self.tenant).await;
                unit.group_member_add(name.as_str(), &people.all[at].email).await.unwrap();
            }
        }
        self.groups.push(Group { id, name, kept, fed });
    }

    async fn spot(&mut self, pair: &Pair<'_>, dice: &mut Dice, n: usize) {
        let name: Slug = format!("{}{}", dice.of(&["h-", "h", "x-"]), 7 * n).parse().unwrap();
        let key = crypto::ed25519::SigningKey::generate().unwrap();
        let labels = if dice.once_in(4) { Labels::default() } else { labels(dice, 3) };
        let new = NewSshHost {
            address: format!("{name}.example:22").parse().unwrap(),
            host_key: crypto::ssh::PublicKey::of_ed25519(&key.public()),
            roles: vec!["deploy".parse().unwrap()],
            labels: Some(labels.clone()),
            source_networks: Vec::new(),
            extensions: BTreeSet::new(),
            way: store::Way::Direct,
        };
        let unit = pair.write::<ops::SshHostPut>(self.tenant).await;
        let id = unit.ssh_host_put(name.as_str(), &new).await.unwrap().0.destination.id;
        let kind = if n.is_multiple_of(2) { DestinationKind::Kubernetes } else { DestinationKind::Ssh };
        if kind == DestinationKind::Kubernetes {
            // What a relay would register.
            let id = pair.lit(id.as_uuid());
            pair.sql(self.tenant, format!("DELETE FROM ssh_host WHERE destination_id = {id}")).await;
            pair.sql(self.tenant, format!("UPDATE destination SET kind = 'kubernetes' WHERE id = {id}")).await;
        }
        self.spots.push(Spot { id, name, kind, labels, none: Labels::default() });
    }

    async fn grant(&mut self, pair: &Pair<'_>, dice: &mut Dice, people: &People) {
        let members: Vec<usize> = self.members.iter().copied().collect();
        let subject = if dice.once_in(2) {
            SubjectName::User(people.all[*dice.of(&members)].email.clone())
        } else {
            SubjectName::Group(dice.of(&self.groups).name.to_string())
        };
        let target = if dice.once_in(2) {
            TargetName::Labels(labels(dice, 2))
        } else {
            TargetName::Destination(dice.of(&self.spots).name.to_string())
        };
        let now = domain::Clock::now(&*pair.clock);
        let command = dice.once_in(8).then(|| "uptime".to_owned());
        let new = NewGrant {
            subject,
            role: dice.of(&ROLES).parse().unwrap(),
            target,
            namespace: dice.once_in(3).then(|| dice.of(&["shop", "web"]).parse().unwrap()),
            hours: dice.once_in(3).then(|| dice.of(&HOURS).parse().unwrap()),
            expires_at: dice.once_in(4).then(|| now.plus_millis(3_600_000 * (1 + dice.below(12).cast_signed() as i64))),
            act_as: ActAs::default(),
            ssh: SshTerms { command, ..SshTerms::default() },
            reason: String::new(),
            approval: dice.once_in(4),
        };
        let unit = pair.write::<ops::GrantCreate>(self.tenant).await;
        match unit.grant_create(&new).await {
            Ok(made) => {
                assert_eq!(made.grant.approval, new.approval);
                self.grants.push(made.grant);
                self.grants.sort_unstable_by_key(|grant| grant.id);
            }
            // The same twice, or what is said of hosts of a cluster.
            Err(domain::Error::Conflict { .. } | domain::Error::Invalid { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    /// Some things that take and give access.
    pub(crate) async fn change(&mut self, pair: &Pair<'_>, dice: &mut Dice, people: &People) {
        for _ in 0..5 {
            let at = dice.below(self.grants.len());
            if self.grants[at].expires_at.is_none_or(|end| end > domain::Clock::now(&*pair.clock)) {
                let grant = self.grants.remove(at);
                pair.write::<ops::GrantDelete>(self.tenant).await.grant_delete(grant.id).await.unwrap();
            }
            self.grant(pair, dice, people).await;
        }
        for _ in 0..16 {
            self.ask(pair, dice, people).await;
        }
        for _ in 0..3 {
            let spot = dice.below(self.spots.len());
            self.relabel(pair, dice, spot).await;
        }
        let group = dice.below(self.groups.len());
        if let Some(user) = self.groups[group].kept.pop_first() {
            let unit = pair.write::<ops::GroupMemberRemove>(self.tenant).await;
            unit.group_member_remove(self.groups[group].name.as_str(), &people.all[user].email).await.unwrap();
        }
        if dice.once_in(2) {
            let group = self.groups.swap_remove(dice.below(self.groups.len()));
            pair.write::<ops::GroupDelete>(self.tenant).await.group_delete(group.name.as_str()).await.unwrap();
            self.grants.retain(|grant| grant.subject != domain::Subject::Group(group.id));
        }
        if dice.once_in(2) {
            let spot = self.spots.swap_remove(dice.below(self.spots.len()));
            let unit = pair.write::<ops::DestinationDelete>(self.tenant).await;
            unit.destination_delete(spot.name.as_str()).await.unwrap();
            let names = |target: &Target| match target {
                Target::Destination(id) | Target::Set { id, .. } => *id == spot.id,
                Target::Labels(_) => false,
            };
            self.grants.retain(|grant| !names(&grant.target));
            // What was approved of a set that is gone would cover its hosts here.
            self.approved.retain_mut(|one| !matches!(one.target(), Target::Set { id, .. } if *id == spot.id));
        }
    }

    /// Gives a destination other labels, and a set other hosts.
    async fn relabel(&mut self, pair: &Pair<'_>, dice: &mut Dice, spot: usize) {
        let spot = &mut self.spots[spot];
        if spot.kind != DestinationKind::Set {
            let change = DestinationChange { labels: Some(labels(dice, 3)), relay: None };
            let unit = pair.write::<ops::DestinationUpdate>(self.tenant).await;
            let (changed, _) = unit.destination_update(spot.name.as_str(), &change).await.unwrap();
            spot.labels = changed.labels;
            return;
        }
        spot.labels = labels(dice, 2);
        let unit = pair.write::<ops::HostSetPut>(self.tenant).await;
        unit.host_set_put(spot.name.as_str(), &spot.labels).await.unwrap();
        let approved = self.approved.iter_mut().map(eligible::Approved::target);
        for target in self.grants.iter_mut().map(|grant| &mut grant.target).chain(approved) {
            if let Target::Set { id, hosts } = target
                && *id == spot.id
            {
                *hosts = spot.labels.clone();
            }
        }
    }

    /// How many grants name a set, without and with all that was ever approved.
    pub(crate) fn granted(&self, set: &Spot, now: Timestamp) -> (u64, u64) {
        let is = |grant: &&Grant| {
            matches!(grant.target, Target::Set { id, .. } if id == set.id)
                && grant.expires_at.is_none_or(|end| end > now)
        };
        let given = self.grants.iter().filter(is).count() as u64;
        (given, given + self.approved.len() as u64)
    }

    /// The groups that somebody is in.
    pub(crate) fn groups_of(&self, people: &People, user: usize) -> BTreeMap<GroupId, Slug> {
        let is_in = |group: &&Group| match &group.fed {
            None => group.kept.contains(&user),
            Some((provider, name)) => people.is_in(user, *provider, name),
        };
        self.groups.iter().filter(is_in).map(|group| (group.id, group.name.clone())).collect()
    }

    pub(crate) fn is_member(&self, people: &People, user: usize) -> bool {
        self.members.contains(&user) && !people.all[user].disabled
    }

    /// What somebody reaches at a place, looking at every grant.
    pub(crate) fn held(
        &self,
        people: &People,
        user: usize,
        spot: &Spot,
        now: Timestamp,
    ) -> BTreeMap<DestinationRole, Held> {
        let groups: BTreeSet<GroupId> = self.groups_of(people, user).into_keys().collect();
        let asker = Asker { user: people.all[user].id, groups: &groups, is_member: self.is_member(people, user) };
        let grants = self.giving(people, (user, spot), now);
        decide(asker, spot.place(), &grants, now)
    }

    pub(crate) fn is_here(&self, user: usize) -> bool {
        self.members.contains(&user)
    }
}
