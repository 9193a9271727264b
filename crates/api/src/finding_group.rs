//! Findings in groups: by rule, by node, by framework, by control.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use access::ops;
use axum::Json;
use axum::extract::State;
use domain::{Error, FindingStatus, Severity};
use serde::Deserialize;
use store::{FindingGroupKey, GroupBy};
use wire::List;
use wire::finding::{FindingFilter as Asked, FindingGroup};

use crate::caller::Caller;
use crate::finding::{counted, filter};
use crate::page::{self, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// Most rules there can be: of so many the groups of a framework are added up.
const RULES: u32 = 1_000_000;

/// Which groups, of which findings.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupQuery {
    /// `rule` (default), `node`, `framework` or `control`.
    by: Option<String>,
    /// `open`, `resolved` or `accepted`.
    status: Option<String>,
    /// `info`, `low`, `medium`, `high` or `critical`.
    severity: Option<String>,
    /// A rule.
    rule: Option<String>,
    /// A node.
    node: Option<String>,
    /// A node type.
    #[serde(rename = "type")]
    node_type: Option<String>,
    /// A part of the message, the rule's id, or the node's name or id.
    text: Option<String>,
    /// A framework that the rule supports, e.g. `nist-800-53-r5`.
    framework: Option<String>,
    /// A control of that framework.
    control: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// What they are grouped by.
#[derive(Clone, Copy)]
enum By {
    Rule,
    Node,
    Framework,
    Control,
}

impl FromStr for By {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "rule" => Self::Rule,
            "node" => Self::Node,
            "framework" => Self::Framework,
            "control" => Self::Control,
            _ => return Err(Error::invalid("by", "use `rule`, `node`, `framework` or `control`")),
        })
    }
}

/// Where a page of groups begins: behind this risk, number and key. Neither number holds a `.`, so what is left is the key.
struct Key(FindingGroupKey);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0.risk, self.0.count, self.0.key)
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(());
        let (risk, count) = (part()?.parse().map_err(|_| ())?, part()?.parse().map_err(|_| ())?);
        Ok(Self(FindingGroupKey { risk, count, key: part()?.to_owned() }))
    }
}

/// A group that is being put together.
#[derive(Default)]
struct Sum {
    risk: i64,
    count: u64,
    counts: BTreeMap<(FindingStatus, Severity), u64>,
}

impl Sum {
    fn add(&mut self, group: &store::FindingGroup) {
        self.risk = self.risk.max(group.risk);
        self.count += group.count;
        for (status, severity, count) in &group.counts {
            *self.counts.entry((*status, *severity)).or_default() += count;
        }
    }

    fn document(self, key: String, label: String, node_type: Option<String>) -> FindingGroup {
        let of = |wanted: FindingStatus| -> u64 {
            self.counts.iter().filter(|((status, _), _)| *status == wanted).map(|(_, count)| count).sum()
        };
        FindingGroup {
            key,
            label,
            node_type,
            risk: u32::try_from(self.risk).unwrap_or_default(),
            count: self.count,
            open: of(FindingStatus::Open),
            accepted: of(FindingStatus::Accepted),
            resolved: of(FindingStatus::Resolved),
            counts: counted(
                self.counts.into_iter().map(|((status, severity), count)| (status, severity, count)).collect(),
            ),
        }
    }
}

/// Groups by what a rule stands in. A finding counts in each of them.
fn by_framework(
    state: &ApiState,
    ruleset: &compliance::Ruleset,
    of_rules: &[store::FindingGroup],
    (framework, control): (Option<&str>, Option<&str>),
    controls: bool,
) -> Vec<(FindingGroupKey, FindingGroup)> {
    let mut sums: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    for group in of_rules {
        let Some(rule) = ruleset.rule(&group.key) else { continue };
        for (of, ids) in &rule.controls {
            if framework.is_some_and(|framework| framework != of) {
                continue;
            }
            if !controls {
                sums.entry((of, "")).or_default().add(group);
                continue;
            }
            for id in ids.iter().filter(|id| control.is_none_or(|control| control == *id)) {
                sums.entry((of, id)).or_default().add(group);
            }
        }
    }
    let document = |((framework, control), sum): ((&str, &str), Sum)| {
        let (key, label) = if controls {
            (format!("{framework}:{control}"), state.catalog.control_title(framework, control))
        } else {
            (framework.to_owned(), state.catalog.framework_title(framework))
        };
        let place = FindingGroupKey { risk: sum.risk, count: sum.count, key: key.clone() };
        (place, sum.document(key, label, None))
    };
    let mut groups: Vec<_> = sums.into_iter().map(document).collect();
    groups.sort_by(|(a, _), (b, _)| order(a, b));
    groups
}

/// The greatest risk first, then the most findings, then by key.
fn order(a: &FindingGroupKey, b: &FindingGroupKey) -> std::cmp::Ordering {
    (b.risk, b.count, &a.key).cmp(&(a.risk, a.count, &b.key))
}

/// The tenant's findings in groups, the greatest risk first. `findings?rule=KEY`, `?node=KEY`, `?framework=KEY` or, of `framework:control`,
/// `?framework=..&control=..` lists those of a group.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/finding-groups", tag = "findings", params(("tenant" = String, Path, description = "id or slug"), GroupQuery),
    responses((status = 200, description = "groups", body = List<FindingGroup>)))]
pub(crate) async fn finding_groups(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<GroupQuery>,
) -> Answer<Json<List<FindingGroup>>> {
    let permit = caller.permit::<ops::FindingList>(&tenant).await?;
    let ruleset = state.catalog.ruleset();
    let GroupQuery { by, status, severity, rule, node, node_type, text, framework, control, limit, page } = query;
    let by = page::word("by", by.as_deref())?.unwrap_or(By::Rule);
    let (of_framework, of_control) = (framework.clone(), control.clone());
    let filter = filter(&ruleset, Asked { status, severity, rule, node, node_type, text, framework, control })?;
    let (after, limit) = (page::after::<Key>(page.as_deref())?.map(|key| key.0), page::limit(limit.as_deref())?);
    let mut read = state.store.read(permit).await?;
    let stored = match by {
        By::Rule => GroupBy::Rule,
        By::Node => GroupBy::Node,
        By::Framework | By::Control => {
            let of_rules = read.finding_groups(GroupBy::Rule, &filter, None, RULES).await?.items;
            let only = (of_framework.as_deref(), of_control.as_deref());
            let groups = by_framework(&state, &ruleset, &of_rules, only, matches!(by, By::Control));
            let behind = |(place, _): &(FindingGroupKey, FindingGroup)| {
                after.as_ref().is_none_or(|after| order(after, place) == std::cmp::Ordering::Less)
            };
            let mut shown: Vec<_> = groups.into_iter().filter(behind).collect();
            let size = usize::try_from(limit).map_err(Error::internal)?;
            let more = shown.len() > size;
            shown.truncate(size);
            let next = if more { shown.last().map(|(place, _)| Key(place.clone())) } else { None };
            let items = shown.into_iter().map(|(_, group)| group).collect();
            return Ok(Json(List { items, next_page: page::next(next) }));
        }
    };
    let groups = read.finding_groups(stored, &filter, after.as_ref(), limit).await?;
    let groups = store::Page { items: groups.items, next: groups.next.map(Key) };
    Ok(page::list(groups, |group| {
        let mut sum = Sum::default();
        sum.add(&group);
        if let Some(node) = group.node {
            return sum.document(node.id, node.name, Some(node.node_type));
        }
        let title = ruleset.rule(&group.key).map(|rule| rule.title.clone());
        let label = title.unwrap_or_else(|| "the rule is no longer installed".to_owned());
        sum.document(group.key, label, None)
    }))
}
