//! Access as a file says it (ADR 0058): what differs from what is there, and making it so.
//!
//! Invariants:
//! - what is applied is the difference that was shown: it is found again in the transaction that makes it, and refused when it is another one;
//! - a file takes away only what it made or took over (`managed_by`), and nothing of another file's;
//! - it makes nobody a member: it invites, and changes the role of nobody who is one;
//! - nobody does by a file what they could not do by hand: what needs another permission needs it here.

use std::collections::{BTreeMap, BTreeSet};

use access::{OpCtx, Role, ops};
use domain::{
    ActAs, Digest, Email, Error, Labels, Result, Slug, SshTerms, Subject, Target, TenantId, Timestamp, UserId,
};
use serde_json::{Value, json};

use crate::access_file_apply::execute;
use crate::access_file_host::FileHost;
use crate::audit::{Category, Change};
use crate::db::{Tx, args};
use crate::grant::{self, GrantOrigin, GrantRow, NewGrant, SubjectName, TargetName};
use crate::group::{self, GroupRow};
use crate::unit::{Read, Write};
use crate::{DestinationChange, destination, invitation};

/// Most entries of one kind in a file.
const ENTRIES_MAX: usize = 10_000;

/// A group as a file says it.
#[derive(Debug, Clone)]
pub struct FileGroup {
    /// Its name.
    pub name: Slug,
    /// The provider and its group that feed it; none: its members are kept here.
    pub fed_by: Option<(String, String)>,
    /// Members, by login name.
    pub members: Vec<Email>,
}

/// What a file says.
#[derive(Debug, Clone, Default)]
pub struct AccessFile {
    /// Its name: what it makes is its own.
    pub name: String,
    /// Who is invited, and to what role in the tenant.
    pub members: Vec<(Email, Role)>,
    /// Groups.
    pub groups: Vec<FileGroup>,
    /// Which role a provider's group gives in the tenant: provider, group, role.
    pub group_roles: Vec<(String, String, Role)>,
    /// SSH hosts.
    pub hosts: Vec<FileHost>,
    /// Sets of hosts: a name, and what a host of it has.
    pub sets: Vec<(Slug, Labels)>,
    /// The labels of destinations.
    pub destinations: Vec<(String, Labels)>,
    /// Grants.
    pub grants: Vec<NewGrant>,
}

/// How a file is applied.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileOptions {
    /// What the file made earlier and does not name any more is taken.
    pub prune: bool,
    /// What names a user or a destination that is not there waits, and is not refused.
    pub missing_waits: bool,
}

/// One difference.
#[derive(Debug, Clone, PartialEq)]
pub struct FileChange {
    /// `create`, `update`, `adopt` (it is there, and the file takes it over), `invite` or `delete`.
    pub action: &'static str,
    /// `member`, `group`, `group-member`, `group-role`, `host`, `set`, `destination` or `grant`.
    pub kind: &'static str,
    /// What it is about, in words.
    pub name: String,
    /// How it is.
    pub before: Value,
    /// How it will be.
    pub after: Value,
    pub(crate) step: Step,
}

/// What making a difference true takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Invite(Email, Role),
    Group(usize),
    AdoptGroup(domain::GroupId),
    Join(Slug, UserId),
    AdoptMember(domain::GroupId, UserId),
    GroupRole(String, String, Role),
    Host(usize, Option<domain::RelayId>),
    Set(usize),
    Labels(domain::DestinationId, Labels),
    LabelsOfMade(String, Labels),
    Grant(usize),
    UpdateGrant(domain::GrantId, usize),
    TakeGrant(domain::GrantId),
    Leave(domain::GroupId, UserId),
    TakeGroupRole(domain::GroupRoleId),
    TakeGroup(domain::GroupId),
}

/// What differs.
#[derive(Debug, Clone)]
pub struct FilePlan {
    /// The differences, in the order in which they are made.
    pub changes: Vec<FileChange>,
    /// What is not done now, and why.
    pub waiting: Vec<String>,
    /// Names this difference: what is applied has to be what was shown.
    pub digest: Digest,
}

pub(crate) fn refused(at: &str, index: usize, message: impl std::fmt::Display) -> Error {
    Error::Invalid { field: None, message: format!("{at}[{index}]: {message}") }
}

/// The same of an error that was found there.
pub(crate) fn within(at: &str, index: usize, error: Error) -> Error {
    match error {
        Error::Conflict { message } => Error::conflict(format!("{at}[{index}]: {message}")),
        other => refused(at, index, other),
    }
}

/// Finds the differences, one kind after the other.
pub(crate) struct Planner<'a> {
    pub(crate) tx: &'a mut Tx,
    pub(crate) tenant: TenantId,
    own: Role,
    pub(crate) file: &'a AccessFile,
    options: FileOptions,
    now: Timestamp,
    members: BTreeMap<String, (UserId, Role)>,
    invited: BTreeSet<String>,
    groups: BTreeMap<Slug, GroupRow>,
    /// Names of hosts and sets that the file makes.
    pub(crate) hosts_made: BTreeSet<String>,
    changes: Vec<FileChange>,
    pub(crate) waiting: Vec<String>,
}

impl Planner<'_> {
    pub(crate) fn push(
        &mut self,
        action: &'static str,
        kind: &'static str,
        name: String,
        (before, after): (Value, Value),
        step: Step,
    ) {
        self.changes.push(FileChange { action, kind, name, before, after, step });
    }

    /// Whether the file may take something over: what is nobody's.
    fn adopts(&self, managed_by: Option<&str>) -> Result<bool> {
        match managed_by {
            None => Ok(true),
            Some(name) if name == self.file.name => Ok(false),
            Some(other) => Err(Error::conflict(format!(
                "it is kept by the file `{}`: take it out of there first",
                other.escape_debug()
            ))),
        }
    }

    async fn invitations(&mut self) -> Result<()> {
        for (at, (email, role)) in self.file.members.iter().enumerate() {
            match self.members.get(email.as_str()) {
                Some((_, held)) if held == role => {}
                Some((_, held)) => self.waiting.push(format!(
                    "{email} is `{held}` and stays so: roles of members are changed by hand (`cairn members add --replace`)"
                )),
                None => {
                    let waits = invitation::waiting(self.tx, self.tenant, email, self.now).await?.map(|row| row.role);
                    if let Some(above) = [Some(*role), waits].into_iter().flatten().find(|role| !self.own.covers(*role))
                    {
                        let why = format!("your role cannot give or take `{above}`, which holds more than itself");
                        return Err(refused("members", at, why));
                    }
                    self.invited.insert(email.to_string());
                    if waits != Some(*role) {
                        let (before, after) = (json!(waits.map(Role::as_str)), json!(role.as_str()));
                        self.push(
                            "invite",
                            "member",
                            email.to_string(),
                            (before, after),
                            Step::Invite(email.clone(), *role),
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// The member of this name; none where they are not there yet, which was noted.
    fn member(&mut self, at: &str, index: usize, email: &str, for_what: &str) -> Result<Option<UserId>> {
        if let Some((id, _)) = self.members.get(email) {
            return Ok(Some(*id));
        }
        if self.invited.contains(email) || self.options.missing_waits {
            self.waiting.push(format!("{for_what}: waits until {email} has signed in: apply again then"));
            return Ok(None);
        }
        Err(refused(at, index, format!("there is no member `{}` here", email.escape_debug())))
    }

    async fn groups(&mut self) -> Result<()> {
        let mut named = BTreeSet::new();
        let file = self.file;
        for (at, new) in file.groups.iter().enumerate() {
            if !named.insert(&new.name) {
                return Err(refused("groups", at, format!("`{}` is there twice", new.name)));
            }
            if new.fed_by.is_some() && !new.members.is_empty() {
                return Err(refused("groups", at, "a group that a provider's group feeds has no `members` of its own"));
            }
            let fed =
                new.fed_by.as_ref().map(|(provider, group)| json!({"provider": provider, "provider_group": group}));
            let held = self.groups.get(&new.name).cloned();
            match &held {
                None => {
                    let after = json!({"name": new.name, "fed_by": fed});
                    self.push("create", "group", new.name.to_string(), (Value::Null, after), Step::Group(at));
                }
                Some(row) => {
                    let is =
                        row.fed_by.as_ref().map(|fed| (fed.provider.clone().unwrap_or_default(), fed.group.clone()));
                    if is != new.fed_by {
                        let why = "it is fed by something else: delete it by hand first, with the grants to it";
                        return Err(refused("groups", at, why));
                    }
                    if self.adopts(row.managed_by.as_deref()).map_err(|why| within("groups", at, why))? {
                        let after = json!({"managed_by": file.name});
                        self.push(
                            "adopt",
                            "group",
                            new.name.to_string(),
                            (Value::Null, after),
                            Step::AdoptGroup(row.id),
                        );
                    }
                }
            }
            self.places(at, new, held.as_ref()).await?;
        }
        Ok(())
    }

    /// Who is to be in a group.
    async fn places(&mut self, at: usize, new: &FileGroup, held: Option<&GroupRow>) -> Result<()> {
        let mut inside: BTreeMap<UserId, Option<String>> = BTreeMap::new();
        if let Some(row) = held {
            let sql = "SELECT user_id, managed_by FROM access_group_member WHERE tenant_id = $1 AND group_id = $2";
            for row in self.tx.rows(sql, args![self.tenant, row.id]).await? {
                inside.insert(UserId::from_uuid(row.uuid(0)?), row.opt_text(1)?);
            }
        }
        let mut wanted = BTreeSet::new();
        for email in &new.members {
            let what = format!("{email} in the group {}", new.name);
            let Some(user) = self.member("groups", at, email.as_str(), &what)? else { continue };
            wanted.insert(user);
            match (inside.get(&user), held) {
                (Some(managed_by), Some(row)) => {
                    if self.adopts(managed_by.as_deref()).map_err(|why| within("groups", at, why))? {
                        let step = Step::AdoptMember(row.id, user);
                        self.push(
                            "adopt",
                            "group-member",
                            what,
                            (Value::Null, json!({"managed_by": self.file.name})),
                            step,
                        );
                    }
                }
                _ => self.push(
                    "create",
                    "group-member",
                    what,
                    (Value::Null, json!({"user": email, "group": new.name})),
                    Step::Join(new.name.clone(), user),
                ),
            }
        }
        let Some(row) = held.filter(|_| self.options.prune) else { return Ok(()) };
        for (user, managed_by) in inside {
            if managed_by.as_deref() == Some(self.file.name.as_str()) && !wanted.contains(&user) {
                let email = self.email(user);
                let what = format!("{email} in the group {}", new.name);
                let before = json!({"user": email, "group": new.name});
                self.push("delete", "group-member", what, (before, Value::Null), Step::Leave(row.id, user));
            }
        }
        Ok(())
    }

    fn email(&self, user: UserId) -> String {
        let found = self.members.iter().find(|(_, (id, _))| *id == user);
        found.map_or_else(|| user.to_string(), |(email, _)| email.clone())
    }

    async fn group_roles(&mut self) -> Result<()> {
        let sql = "SELECT g.id, p.name, g.group_name, g.role, g.managed_by FROM group_role g JOIN identity_provider p ON p.id = g.provider_id \
                   WHERE g.tenant_id = $1 ORDER BY g.id";
        let mut held = BTreeMap::new();
        for row in self.tx.rows(sql, args![self.tenant]).await? {
            let id = domain::GroupRoleId::from_uuid(row.uuid(0)?);
            held.insert((row.text(1)?, row.text(2)?), (id, row.parse::<Role>(3)?, row.opt_text(4)?));
        }
        let file = self.file;
        for (at, (provider, group, role)) in file.group_roles.iter().enumerate() {
            let key = (provider.clone(), group.clone());
            let is = held.remove(&key);
            if !self.own.covers(*role) || is.as_ref().is_some_and(|(_, held, _)| !self.own.covers(*held)) {
                return Err(refused(
                    "group_roles",
                    at,
                    "your role cannot give or take a role that holds more than itself",
                ));
            }
            let adopts = match &is {
                None => false,
                Some((_, _, by)) => self.adopts(by.as_deref()).map_err(|why| within("group_roles", at, why))?,
            };
            let same = is.as_ref().is_some_and(|(_, held, _)| held == role);
            if !same || adopts {
                let action = if is.is_none() {
                    "create"
                } else if same {
                    "adopt"
                } else {
                    "update"
                };
                let before = json!(is.map(|(_, held, _)| held.as_str()));
                let step = Step::GroupRole(provider.clone(), group.clone(), *role);
                self.push(action, "group-role", format!("{provider}: {group}"), (before, json!(role.as_str())), step);
            }
        }
        for ((provider, group), (id, role, by)) in held {
            if self.options.prune && by.as_deref() == Some(file.name.as_str()) {
                if !self.own.covers(role) {
                    return Err(Error::Forbidden {
                        message: format!(
                            "your role cannot take `{role}` from {provider}: {group}, which holds more than itself"
                        ),
                    });
                }
                let (before, step) = (json!(role.as_str()), Step::TakeGroupRole(id));
                self.push("delete", "group-role", format!("{provider}: {group}"), (before, Value::Null), step);
            }
        }
        Ok(())
    }

    async fn destinations(&mut self) -> Result<()> {
        let file = self.file;
        for (at, (name, labels)) in file.destinations.iter().enumerate() {
            match destination::find(self.tx, self.tenant, name).await {
                Ok(row) if row.labels == *labels => {}
                Ok(row) => {
                    let change = DestinationChange { labels: Some(labels.clone()), relay: None };
                    destination::may_have(&row, &change).map_err(|why| within("destinations", at, why))?;
                    let step = Step::Labels(row.id, labels.clone());
                    self.push("update", "destination", name.clone(), (json!(row.labels), json!(labels)), step);
                }
                Err(Error::NotFound { .. }) if self.hosts_made.contains(name) => self.labels_of_made(name, labels),
                Err(Error::NotFound { .. }) => self.no_destination("destinations", at, name)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Refuses what is said of hosts where it is said of a cluster, and the other way round, before anything is shown as a difference.
    async fn of_a_host(&mut self, at: usize, new: &NewGrant, name: &str) -> Result<()> {
        let says_nothing = new.ssh.is_empty() && new.namespace.is_none() && new.act_as.is_empty();
        if says_nothing && new.role.of_namespace().is_none() {
            return Ok(());
        }
        let row = destination::find(self.tx, self.tenant, name).await?;
        grant::check_terms(&row, new).map_err(|why| within("grants", at, why))?;
        grant::check_role(&new.role, new.namespace.as_ref(), Some(&row)).map_err(|why| within("grants", at, why))
    }

    fn no_destination(&mut self, at: &str, index: usize, name: &str) -> Result<()> {
        if !self.options.missing_waits {
            return Err(refused(at, index, format!("there is no destination `{}` here", name.escape_debug())));
        }
        self.waiting.push(format!("{at}[{index}]: waits until there is a destination {name}: apply again then"));
        Ok(())
    }

    /// How a grant is spelled, if all that it names is there.
    fn spelling(&self, new: &NewGrant, names: &BTreeMap<String, domain::DestinationId>) -> Option<String> {
        let subject = match &new.subject {
            SubjectName::User(name) => Subject::User(self.members.get(&name.to_ascii_lowercase())?.0),
            SubjectName::Group(name) => Subject::Group(self.groups.get(&name.parse().ok()?)?.id),
        };
        let target = match &new.target {
            TargetName::Destination(name) => Target::Destination(*names.get(name)?),
            TargetName::Labels(labels) => Target::labels(labels.clone()).ok()?,
        };
        let when = (new.namespace.as_ref(), new.hours.as_ref());
        Some(grant::spelled(subject, &target, &new.role, when, (&new.act_as, &new.ssh, new.approval)))
    }

    async fn grants(&mut self) -> Result<()> {
        let mut held: BTreeMap<String, GrantRow> = BTreeMap::new();
        for row in grant::alive(self.tx, self.tenant, self.now).await? {
            if matches!(row.origin, GrantOrigin::Manual | GrantOrigin::File) {
                held.insert(grant::spelling(&row.grant), row);
            }
        }
        let names = names(self.tx, self.tenant).await?;
        let (mut named, file) = (BTreeSet::new(), self.file);
        let made: BTreeSet<&Slug> = file.groups.iter().map(|group| &group.name).collect();
        for (at, new) in file.grants.iter().enumerate() {
            let what = words(new);
            if !named.insert(what.clone()) {
                return Err(refused("grants", at, "this is there twice"));
            }
            // One that is there and still gives access is ended; only what is not there is nothing.
            let is_there = || self.spelling(new, &names).is_some_and(|spelling| held.contains_key(&spelling));
            if new.expires_at.is_some_and(|end| end <= self.now) && !is_there() {
                self.waiting.push(format!("{what}: is over, and gives nothing"));
                continue;
            }
            match &new.target {
                TargetName::Labels(labels) => {
                    Target::labels(labels.clone()).map_err(|why| within("grants", at, why))?;
                    let namespace = new.namespace.as_ref();
                    grant::check_role(&new.role, namespace, None).map_err(|why| within("grants", at, why))?;
                }
                TargetName::Destination(name) if names.contains_key(name) => self.of_a_host(at, new, name).await?,
                TargetName::Destination(name) if self.hosts_made.contains(name) => {}
                TargetName::Destination(name) => {
                    self.no_destination("grants", at, name)?;
                    continue;
                }
            }
            match &new.subject {
                SubjectName::User(name) => {
                    if self.member("grants", at, &name.to_ascii_lowercase(), &what)?.is_none() {
                        continue;
                    }
                }
                SubjectName::Group(name) => {
                    let name: Slug = name.parse().map_err(|why| within("grants", at, why))?;
                    if !self.groups.contains_key(&name) && !made.contains(&name) {
                        return Err(refused("grants", at, format!("there is no group `{name}` here")));
                    }
                }
            }
            let after = json!({"expires_at": new.expires_at, "reason": new.reason});
            match self.spelling(new, &names).and_then(|spelling| held.remove(&spelling)) {
                None => self.push("create", "grant", what, (Value::Null, after), Step::Grant(at)),
                Some(row) => {
                    let adopts = self.adopts(row.managed_by.as_deref()).map_err(|why| within("grants", at, why))?;
                    let before = json!({"expires_at": row.grant.expires_at, "reason": row.reason});
                    if before != after || adopts {
                        let action = if before == after { "adopt" } else { "update" };
                        self.push(action, "grant", what, (before, after), Step::UpdateGrant(row.grant.id, at));
                    }
                }
            }
        }
        for row in held.into_values() {
            if self.options.prune && row.managed_by.as_deref() == Some(file.name.as_str()) {
                let before = grant::told(&row);
                self.push("delete", "grant", row_words(&row), (before, Value::Null), Step::TakeGrant(row.grant.id));
            }
        }
        Ok(())
    }

    /// Groups that the file made and does not name any more, behind the grants to them. One that its grants still name stays, and so does one that
    /// somebody else uses too: with it would go what is not the file's.
    async fn groups_gone(&mut self) -> Result<()> {
        let named: BTreeSet<&Slug> = self.file.groups.iter().map(|group| &group.name).collect();
        let own =
            |row: &&GroupRow| row.managed_by.as_deref() == Some(self.file.name.as_str()) && !named.contains(&row.name);
        let gone: Vec<(domain::GroupId, Slug)> =
            self.groups.values().filter(own).map(|row| (row.id, row.name.clone())).collect();
        let gone = if self.options.prune { gone } else { Vec::new() };
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for grant in &self.file.grants {
            used.extend(grant.act_as.groups.iter().map(Slug::as_str));
            used.extend(if let SubjectName::Group(name) = &grant.subject { Some(name.as_str()) } else { None });
        }
        for (id, name) in gone {
            if used.contains(name.as_str()) {
                self.waiting.push(format!("group {name}: stays, since grants of the file name it"));
                continue;
            }
            let others = "SELECT 1 FROM access_group_member WHERE tenant_id = $1 AND group_id = $2 AND (managed_by IS NULL OR managed_by <> $3) \
                 UNION ALL SELECT 1 FROM access_grant WHERE tenant_id = $1 AND (group_id = $2 OR may_group_id = $2) AND (managed_by IS NULL OR managed_by <> $3) \
                 UNION ALL SELECT 1 FROM access_policy WHERE tenant_id = $1 AND glass_group_id = $2";
            if self.tx.rows(others, args![self.tenant, id, self.file.name.as_str()]).await?.is_empty() {
                let before = json!({"name": name});
                self.push("delete", "group", name.to_string(), (before, Value::Null), Step::TakeGroup(id));
            } else {
                self.waiting
                    .push(format!("group {name}: stays, since it has members or grants that are not this file's"));
            }
        }
        Ok(())
    }
}

/// A grant in words that tell it from every other.
fn words(new: &NewGrant) -> String {
    let subject = match &new.subject {
        SubjectName::User(name) => format!("user {}", name.to_ascii_lowercase()),
        SubjectName::Group(name) => format!("group {name}"),
    };
    let target = match &new.target {
        TargetName::Destination(name) => name.clone(),
        TargetName::Labels(labels) => label_words(labels),
    };
    let hours = new.hours.as_ref().map(ToString::to_string);
    said(&subject, new.role.as_str(), &target, new.namespace.as_ref().map(Slug::as_str), hours.as_deref())
        + &lent(&new.act_as, &new.ssh, new.approval)
}

fn row_words(row: &GrantRow) -> String {
    let subject = match row.grant.subject {
        Subject::User(_) => format!("user {}", row.subject_name),
        Subject::Group(_) => format!("group {}", row.subject_name),
    };
    let target = match &row.grant.target {
        Target::Destination(_) | Target::Set { .. } => row.destination_name.clone().unwrap_or_default(),
        Target::Labels(labels) => label_words(labels),
    };
    let hours = row.grant.hours.as_ref().map(ToString::to_string);
    let namespace = row.grant.namespace.as_ref().map(Slug::as_str);
    said(&subject, row.grant.role.as_str(), &target, namespace, hours.as_deref())
        + &lent(&row.grant.act_as, &row.grant.ssh, row.grant.approval)
}

/// The names that a grant lends, how it lets hosts be reached, and whether it has to be approved each time.
fn lent(names: &ActAs, ssh: &SshTerms, approval: bool) -> String {
    let users = names.users.iter().map(|name| format!(" --as {name}"));
    let groups = names.groups.iter().map(|name| format!(" --as-group {name}"));
    let networks = ssh.networks.iter().map(|network| format!(" --network {network}"));
    let nothing = ssh.extensions.as_ref().filter(|some| some.is_empty()).map(|_| " --extension none".to_owned());
    let extensions = ssh.extensions.iter().flatten().map(|name| format!(" --extension {name}"));
    let command = ssh.command.iter().map(|text| format!(" --force-command {text:?}"));
    let approval = approval.then(|| " --approval".to_owned());
    users.chain(groups).chain(networks).chain(nothing).chain(extensions).chain(command).chain(approval).collect()
}

fn label_words(labels: &Labels) -> String {
    labels.as_map().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn said(subject: &str, role: &str, target: &str, namespace: Option<&str>, hours: Option<&str>) -> String {
    let namespace = namespace.map(|name| format!(".{name}")).unwrap_or_default();
    let hours = hours.map(|hours| format!(" {hours}")).unwrap_or_default();
    format!("{subject} as {role} at {target}{namespace}{hours}")
}

/// The destinations by name.
async fn names(tx: &mut Tx, tenant: TenantId) -> Result<BTreeMap<String, domain::DestinationId>> {
    let rows = tx.rows("SELECT name, id FROM destination WHERE tenant_id = $1", args![tenant]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, domain::DestinationId::from_uuid(row.uuid(1)?)))).collect()
}

/// Refuses what needs a permission that the actor has not: who is invited, and which roles groups give, is for who manages users.
fn allowed(ctx: &OpCtx, tenant: TenantId, file: &AccessFile, touches_roles: bool) -> Result<()> {
    if !file.members.is_empty() {
        drop(ctx.authorize::<ops::MemberPut>(tenant)?);
    }
    if !file.group_roles.is_empty() || touches_roles {
        drop(ctx.authorize::<ops::GroupRolePut>(tenant)?);
    }
    Ok(())
}

async fn plan(
    tx: &mut Tx,
    (ctx, tenant, now): (&OpCtx, TenantId, Timestamp),
    file: &AccessFile,
    options: FileOptions,
) -> Result<FilePlan> {
    let counts = [
        file.members.len(),
        file.groups.len(),
        file.group_roles.len(),
        file.hosts.len(),
        file.sets.len(),
        file.destinations.len(),
        file.grants.len(),
    ];
    if counts.iter().any(|count| *count > ENTRIES_MAX) {
        return Err(Error::Limit { which: "entries of one kind in a file", max: ENTRIES_MAX as u64 });
    }
    let own = ctx.role_in(tenant).ok_or(Error::NotFound { what: "tenant" })?;
    let mut members = BTreeMap::new();
    let sql = "SELECT u.email, u.id, m.role FROM member m JOIN app_user u ON u.id = m.user_id WHERE m.tenant_id = $1";
    for row in tx.rows(sql, args![tenant]).await? {
        members.insert(row.text(0)?, (UserId::from_uuid(row.uuid(1)?), row.parse(2)?));
    }
    let groups = group::all(tx, tenant).await?.into_iter().map(|row| (row.name.clone(), row)).collect();
    let (invited, hosts_made, changes, waiting) = (BTreeSet::new(), BTreeSet::new(), Vec::new(), Vec::new());
    let mut planner =
        Planner { tx, tenant, own, file, options, now, members, invited, groups, hosts_made, changes, waiting };
    planner.invitations().await?;
    planner.groups().await?;
    planner.group_roles().await?;
    planner.hosts().await?;
    planner.sets().await?;
    planner.destinations().await?;
    planner.grants().await?;
    planner.groups_gone().await?;
    let Planner { changes, waiting, .. } = planner;
    allowed(ctx, tenant, file, changes.iter().any(|change| change.kind == "group-role"))?;
    let shown: Vec<Value> = changes
        .iter()
        .map(|change| {
            json!([change.action, change.kind, change.name, change.before, change.after, format!("{:?}", change.step)])
        })
        .collect();
    let text = json!(["cairn access plan v1", tenant, file.name, options.prune, shown]).to_string();
    Ok(FilePlan { digest: crypto::sha256(text.as_bytes()), changes, waiting })
}

impl Read<ops::AccessPlan> {
    /// What differs between a file and what is there.
    pub async fn access_plan(&mut self, file: &AccessFile, options: FileOptions) -> Result<FilePlan> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let ctx = self.permit.ctx().clone();
        plan(&mut self.tx, (&ctx, tenant, now), file, options).await
    }
}

impl Write<ops::AccessApply> {
    /// Makes what is there as a file says, in one transaction. `expected`: names the difference that was shown, the only one that is made.
    pub async fn access_apply(mut self, file: &AccessFile, options: FileOptions, expected: Digest) -> Result<FilePlan> {
        let (tenant, store) = (self.tenant(), self.store.clone());
        let (ctx, now) = (self.permit.ctx().clone(), store.clock().now());
        let plan = plan(&mut self.tx, (&ctx, tenant, now), file, options).await?;
        if plan.digest != expected {
            return Err(Error::conflict(
                "what is there changed since the difference was shown: look at the difference again",
            ));
        }
        execute(&mut self.tx, &store, &ctx, tenant, file, &plan).await?;
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for change in &plan.changes {
            *counts.entry(change.action).or_default() += 1;
        }
        let detail = json!({"name": file.name, "prune": options.prune, "changes": counts, "plan": plan.digest});
        self.commit(Change::to(Category::Access, "access-file", &file.name).detail(detail)).await?;
        Ok(plan)
    }
}
