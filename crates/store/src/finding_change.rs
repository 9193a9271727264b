//! One change to many findings, in one transaction: all of them or none (ADR 0064).
//!
//! They are named one by one, or by a filter with a digest of what it found when somebody looked: where that has changed since, nothing is done.

use access::{Operation, ops};
use domain::{Digest, Error, FindingId, FindingStatus, Result, Severity, TenantId, Timestamp};
use serde_json::{Value, json};

use crate::bulk::Batch;
use crate::db::{Row, Tx, args};
use crate::finding::{FindingFilter, Matching, acceptance, lock_findings, record};
use crate::graph_map;
use crate::job::count;
use crate::unit::{Read, Write};

/// Most findings that a change names one by one.
pub const FINDINGS_NAMED: usize = 1_000;
/// Most findings that a change by a filter is about.
pub const FINDINGS_MATCHED: u32 = 10_000;

/// What can be done to findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingVerb {
    /// Accept the risk of open ones.
    Accept,
    /// Say that open or accepted ones are resolved.
    Resolve,
    /// Open accepted or resolved ones again.
    Reopen,
}

impl FindingVerb {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Resolve => "resolve",
            Self::Reopen => "reopen",
        }
    }

    const fn allowed(self) -> &'static [FindingStatus] {
        match self {
            Self::Accept => &[FindingStatus::Open],
            Self::Resolve => &[FindingStatus::Open, FindingStatus::Accepted],
            Self::Reopen => &[FindingStatus::Accepted, FindingStatus::Resolved],
        }
    }

    /// What is done to one finding is recorded by this name, also here.
    const fn recorded_as(self) -> &'static str {
        match self {
            Self::Accept => ops::FindingAccept::NAME,
            Self::Resolve => ops::FindingResolve::NAME,
            Self::Reopen => ops::FindingReopen::NAME,
        }
    }

    const fn after(self) -> FindingStatus {
        match self {
            Self::Accept => FindingStatus::Accepted,
            Self::Resolve => FindingStatus::Resolved,
            Self::Reopen => FindingStatus::Open,
        }
    }
}

impl std::str::FromStr for FindingVerb {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "accept" => Self::Accept,
            "resolve" => Self::Resolve,
            "reopen" => Self::Reopen,
            _ => return Err(Error::invalid("change", "use `accept`, `resolve` or `reopen`")),
        })
    }
}

/// A change to findings, with what it needs.
#[derive(Debug, Clone)]
pub enum FindingChanging {
    /// Accept their risk.
    Accept {
        /// Why.
        reason: String,
        /// Until when.
        until: Timestamp,
    },
    /// Say that they are resolved.
    Resolve,
    /// Open them again.
    Reopen,
}

impl FindingChanging {
    /// What it does.
    pub const fn verb(&self) -> FindingVerb {
        match self {
            Self::Accept { .. } => FindingVerb::Accept,
            Self::Resolve => FindingVerb::Resolve,
            Self::Reopen => FindingVerb::Reopen,
        }
    }
}

/// What a change to all that a filter names would be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingSelection {
    /// Those that the change is about, by state and severity.
    pub counts: Vec<(FindingStatus, Severity, u64)>,
    /// How many those are.
    pub count: u64,
    /// How many more the filter names, to which this cannot be done in the state they are in.
    pub left: u64,
    /// Which ones those are and when each was changed last, in a digest; none where they are too many to be changed together.
    pub seen: Option<Digest>,
}

/// Which findings to change.
#[derive(Debug, Clone, Copy)]
pub enum Selected<'a> {
    /// These.
    Named(&'a [FindingId]),
    /// Those that a filter names, as somebody saw them.
    Matching {
        /// The filter.
        filter: &'a FindingFilter,
        /// [`FindingSelection::seen`].
        seen: Digest,
    },
}

/// A finding as a change needs it.
struct Standing {
    id: FindingId,
    rule: String,
    node: String,
    status: FindingStatus,
    changed_at: Timestamp,
    accepted: (Option<String>, Option<Timestamp>),
}

/// Those that a filter names and the change can be done to, in the order of their ids; one more than the limit where there are more.
async fn standing(tx: &mut Tx, tenant: TenantId, filter: &FindingFilter, verb: FindingVerb) -> Result<Vec<Standing>> {
    let mut matching = Matching::new(tx.engine(), tenant, filter);
    let allowed: Vec<String> = verb.allowed().iter().map(|status| matching.bind(status.as_str())).collect();
    matching.and(&format!("f.status || '' IN ({})", allowed.join(", ")));
    let limited = matching.bind(i64::from(FINDINGS_MATCHED) + 1);
    // In the order of the list's index, which holds all that filters ask for: which ones they are where they are too many is of no account.
    let sql = format!("SELECT f.id FROM {} ORDER BY f.risk DESC, f.id LIMIT {limited}", matching.rows());
    let rows = tx.rows_built(sql, matching.values()).await?;
    let ids = rows.iter().map(|row| Ok(row.uuid(0)?.as_u128())).collect::<Result<Vec<_>>>()?;
    with_ids(tx, tenant, ids).await
}

/// Those of these ids that are there, in their order.
async fn with_ids(tx: &mut Tx, tenant: TenantId, ids: Vec<u128>) -> Result<Vec<Standing>> {
    let mut found = Vec::with_capacity(ids.len());
    tx.bulk_rows(
        &Batch::new().uuid("id", ids),
        "SELECT f.id, f.rule_id, (SELECT n.id FROM node n WHERE n.tenant_id = $1 AND n.key = f.node_key), f.status, f.changed_at, \
         f.accepted_reason, f.accepted_until FROM LOOKUP(finding f id)",
        args![tenant],
        |row| {
            found.push(standing_row(row)?);
            Ok(())
        },
    )
    .await?;
    found.sort_by_key(|standing: &Standing| standing.id.as_uuid());
    Ok(found)
}

fn standing_row(row: &Row) -> Result<Standing> {
    Ok(Standing {
        id: FindingId::from_uuid(row.uuid(0)?),
        rule: row.text(1)?,
        node: row.text(2)?,
        status: row.parse(3)?,
        changed_at: row.time(4)?,
        accepted: (row.opt_text(5)?, row.opt_time(6)?),
    })
}

/// Those with these ids, in their order.
async fn named(tx: &mut Tx, tenant: TenantId, ids: &[FindingId]) -> Result<Vec<Standing>> {
    let mut ids: Vec<u128> = ids.iter().map(|id| id.as_uuid().as_u128()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() || ids.len() > FINDINGS_NAMED {
        return Err(Error::invalid("findings", format!("name 1 to {FINDINGS_NAMED} findings, or use a `filter`")));
    }
    let asked = ids.len();
    let found = with_ids(tx, tenant, ids).await?;
    if found.len() < asked {
        return Err(Error::NotFound { what: "finding" });
    }
    Ok(found)
}

/// What tells one selection from another: what shall be done, and which findings in which state. Time alone is not enough for two changes in one
/// millisecond, so the state is there too.
fn digest(verb: FindingVerb, chosen: &[Standing]) -> Digest {
    let mut bytes = format!("cairn/finding-selection/v1\0{}\0", verb.as_str()).into_bytes();
    for standing in chosen {
        bytes.extend_from_slice(standing.id.as_uuid().as_bytes());
        bytes.extend_from_slice(&standing.changed_at.as_millis().to_be_bytes());
        bytes.extend_from_slice(standing.status.as_str().as_bytes());
        bytes.push(0);
    }
    crypto::sha256(&bytes)
}

impl Read<ops::FindingList> {
    /// What a change to all that a filter names would be about.
    pub async fn finding_selection(&mut self, filter: &FindingFilter, verb: FindingVerb) -> Result<FindingSelection> {
        let tenant = self.tenant();
        let matching = Matching::new(self.tx.engine(), tenant, filter);
        let (mut counts, mut total, mut left) = (Vec::new(), 0, 0);
        for row in self.tx.rows_built(matching.counts(), matching.values()).await? {
            let (status, severity, number): (FindingStatus, Severity, u64) =
                (row.parse(0)?, row.parse(1)?, count(&row, 2)?);
            if verb.allowed().contains(&status) {
                counts.push((status, severity, number));
                total += number;
            } else {
                left += number;
            }
        }
        counts.sort_unstable();
        let seen = if total > u64::from(FINDINGS_MATCHED) {
            None
        } else {
            Some(digest(verb, &standing(&mut self.tx, tenant, filter, verb).await?))
        };
        Ok(FindingSelection { counts, count: total, left, seen })
    }
}

impl Write<ops::FindingChange> {
    /// Changes all of the selected findings or none; how many those are. Each leaves a record of its own.
    pub async fn finding_change(mut self, selected: Selected<'_>, how: &FindingChanging) -> Result<u64> {
        let (tenant, now, verb) = (self.tenant(), self.store.clock().now(), how.verb());
        let (reason, until) = match how {
            FindingChanging::Accept { reason, until } => {
                (Some(acceptance(reason, *until, now)?.to_owned()), Some(*until))
            }
            FindingChanging::Resolve | FindingChanging::Reopen => (None, None),
        };
        lock_findings(&mut self.tx, tenant).await?;
        let chosen = match selected {
            Selected::Named(ids) => {
                let found = named(&mut self.tx, tenant, ids).await?;
                if let Some(wrong) = found.iter().find(|standing| !verb.allowed().contains(&standing.status)) {
                    let others = found.iter().filter(|standing| !verb.allowed().contains(&standing.status)).count();
                    return Err(Error::conflict(format!(
                        "{others} of the {} findings cannot be changed so, `{}` is {}: leave them out; nothing was changed",
                        found.len(),
                        wrong.id,
                        wrong.status
                    )));
                }
                found
            }
            Selected::Matching { filter, seen } => {
                let found = standing(&mut self.tx, tenant, filter, verb).await?;
                if found.len() > usize::try_from(FINDINGS_MATCHED).unwrap_or(usize::MAX) {
                    return Err(Error::invalid(
                        "filter",
                        format!("more than {FINDINGS_MATCHED} findings match: ask for fewer at once"),
                    ));
                }
                if digest(verb, &found) != seen {
                    return Err(Error::conflict(format!(
                        "the findings that match have changed since you looked, {} match now: look again; nothing was changed",
                        found.len()
                    )));
                }
                if found.is_empty() {
                    return Err(Error::conflict("no finding matches to which this can be done"));
                }
                found
            }
        };
        self.apply(&chosen, how, reason.as_deref(), now).await?;
        graph_map::changed(&mut self.tx, tenant, graph_map::Part::Findings).await?;
        let together = chosen.len();
        let changes = chosen.iter().map(|standing| {
            let more = match verb {
                FindingVerb::Accept => json!({"reason": reason, "until": until, "together": together}),
                FindingVerb::Resolve => json!({"together": together}),
                FindingVerb::Reopen => {
                    let was: Value = json!({"reason": standing.accepted.0, "until": standing.accepted.1});
                    json!({"accepted": was, "together": together})
                }
            };
            record(standing.id, (&standing.rule, &standing.node), (standing.status, verb.after()), more)
        });
        let changes = changes.collect();
        self.commit_each(verb.recorded_as(), changes).await?;
        u64::try_from(together).map_err(Error::internal)
    }

    async fn apply(
        &mut self,
        chosen: &[Standing],
        how: &FindingChanging,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<()> {
        let tenant = self.tenant();
        let batch = Batch::new().uuid("id", chosen.iter().map(|standing| standing.id.as_uuid().as_u128()));
        let changed = match how {
            FindingChanging::Accept { until, .. } => {
                let by = self.permit.ctx().actor().to_string();
                self.tx
                    .bulk(
                        &batch,
                        "UPDATE finding SET status = 'accepted', changed_at = $2, status_at = $2, accepted_by = $3, accepted_reason = $4, accepted_until = $5 \
                         FROM LOOKUP(finding f id) SAME(finding f)",
                        args![tenant, now, by, reason.unwrap_or_default(), *until],
                    )
                    .await?
            }
            FindingChanging::Resolve => {
                self.tx
                    .bulk(
                        &batch,
                        "UPDATE finding SET status = 'resolved', changed_at = $2, status_at = $2, resolved_at = $2, resolution = 'manual', accepted_by = NULL, \
                         accepted_reason = NULL, accepted_until = NULL FROM LOOKUP(finding f id) SAME(finding f)",
                        args![tenant, now],
                    )
                    .await?
            }
            FindingChanging::Reopen => {
                self.tx
                    .bulk(
                        &batch,
                        "UPDATE finding SET status = 'open', changed_at = $2, status_at = $2, resolved_at = NULL, resolution = NULL, accepted_by = NULL, \
                         accepted_reason = NULL, accepted_until = NULL FROM LOOKUP(finding f id) SAME(finding f)",
                        args![tenant, now],
                    )
                    .await?
            }
        };
        if usize::try_from(changed).ok() == Some(chosen.len()) {
            Ok(())
        } else {
            Err(Error::internal(format!("{changed} findings were changed of {}", chosen.len())))
        }
    }
}
