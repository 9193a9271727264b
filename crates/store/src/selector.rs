//! Grants by labels, and the destinations that these select: both found without looking at all of a tenant's.
//!
//! A set of labels is written as one JSON object, its names in order. So a selector begins with its first label, which a destination has that it
//! selects; and the text of each of its labels is in the text of that destination's labels. What is found that way is looked at with `covers` before
//! anything rests on it.

use std::collections::{BTreeMap, BTreeSet};

use access::grant::covers;
use domain::{DestinationId, DestinationRole, Error, Labels, Result, Slug, Target, TenantId, Timestamp};
use serde_json::json;

use crate::bulk::Batch;
use crate::db::{Row, Tx, args};
use crate::destination::DestinationRow;
use crate::grant::{COLUMNS, GrantRow, columns, grant_row, names};
use crate::host_set;

/// What a text has before its first comma: column `selector_label` of `access_grant`, where the text is a selector's.
pub(crate) fn first(selector: &str) -> &str {
    selector.split_once(',').map_or(selector, |(first, _)| first)
}

/// What selectors begin with that may select who has these labels.
pub(crate) fn begins(labels: &Labels) -> BTreeSet<String> {
    let alone = labels.as_map().iter().map(|(name, value)| json!(BTreeMap::from([(name, value)])).to_string());
    let both = |alone: String| {
        let followed = alone.strip_suffix('}').unwrap_or(&alone);
        [first(followed).to_owned(), first(&alone).to_owned()]
    };
    alone.flat_map(both).collect()
}

/// A text that is in the text of all labels that hold those that are wanted: one of them, the longest.
pub(crate) fn told_apart(wanted: &Labels) -> Option<String> {
    let one = |(name, value): (&String, &String)| {
        let text = json!(BTreeMap::from([(name, value)])).to_string();
        text.get(1..text.len() - 1).map(str::to_owned)
    };
    wanted.as_map().iter().filter_map(one).max_by_key(String::len)
}

/// What a grant selects, by its columns `selector` and `set_id`.
pub(crate) fn target(row: &Row, selector: usize, set: usize) -> Result<Target> {
    let labels = row.json(selector)?;
    match row.opt_uuid(set)? {
        Some(id) => host_set::target(DestinationId::from_uuid(id), labels),
        None => Target::labels(labels).map_err(|_| Error::internal("a grant without target")),
    }
}

/// The selectors of the tenant's living grants that select a destination, by labels or by a set, as they are written; with how many grants give
/// something by them.
pub(crate) async fn selecting(
    tx: &mut Tx,
    tenant: TenantId,
    place: &DestinationRow,
    now: Timestamp,
) -> Result<BTreeMap<String, u64>> {
    let sql = "SELECT a.selector, a.set_id, COUNT(*) FROM LOOKUP(access_grant a selector_label) AND (a.expires_at IS NULL OR a.expires_at > $2) \
               AND (a.user_id IS NOT NULL OR a.group_id IS NOT NULL) GROUP BY a.selector, a.set_id";
    let begins = begins(&place.labels);
    let batch = Batch::new().text("selector_label", begins.iter().map(String::as_str));
    let mut found = BTreeMap::new();
    tx.bulk_rows(&batch, sql, args![tenant, now], |row| {
        if covers(&target(row, 0, 1)?, place.place()) {
            *found.entry(row.text(0)?).or_default() += u64::try_from(row.i64(2)?).map_err(Error::internal)?;
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

/// The tenant's living eligible grants that name a destination, and those that may select it.
pub(crate) async fn eligible_at(
    tx: &mut Tx,
    tenant: TenantId,
    place: &DestinationRow,
    now: Timestamp,
) -> Result<Vec<GrantRow>> {
    let named = format!(
        "SELECT {COLUMNS} WHERE a.tenant_id = $1 AND (a.destination_id = $2 OR a.set_id = $2) AND (a.expires_at IS NULL OR a.expires_at > $3) \
         AND (a.may_user_id IS NOT NULL OR a.may_group_id IS NOT NULL)"
    );
    let rows = tx.rows_built(named, args![tenant, place.id, now]).await?;
    let mut found = rows.iter().map(grant_row).collect::<Result<Vec<_>>>()?;
    let selected = concat!(
        "SELECT ",
        columns!(),
        " FROM (SELECT a.* FROM LOOKUP(access_grant a selector_label) AND (a.expires_at IS NULL OR a.expires_at > $2) \
         AND (a.may_user_id IS NOT NULL OR a.may_group_id IS NOT NULL)) a",
        names!()
    );
    let begins = begins(&place.labels);
    let batch = Batch::new().text("selector_label", begins.iter().map(String::as_str));
    tx.bulk_rows(&batch, selected, args![tenant, now], |row| grant_row(row).map(|row| found.push(row))).await?;
    Ok(found)
}

/// The roles that the tenant's grants give in a cluster to anybody, at whatever hours. Eligible ones give nothing, so nothing is bound for them.
pub(crate) async fn roles_at(
    tx: &mut Tx,
    tenant: TenantId,
    place: &DestinationRow,
    now: Timestamp,
) -> Result<BTreeSet<(DestinationRole, Option<Slug>)>> {
    let mut roles = BTreeSet::new();
    let mut add = |row: &Row| {
        let namespace = row.opt_text(1)?.map(|text| text.parse()).transpose();
        roles.insert((row.parse(0)?, namespace.map_err(|_| Error::internal("a grant's namespace"))?));
        Ok::<_, Error>(())
    };
    let named = "SELECT DISTINCT role, namespace FROM access_grant WHERE tenant_id = $1 AND destination_id = $3 AND ssh_terms IS NULL \
                 AND (user_id IS NOT NULL OR group_id IS NOT NULL) AND (expires_at IS NULL OR expires_at > $2)";
    for row in &tx.rows(named, args![tenant, now, place.id]).await? {
        add(row)?;
    }
    let selected = "SELECT DISTINCT a.role, a.namespace, a.selector, a.set_id FROM LOOKUP(access_grant a selector_label) AND a.ssh_terms IS NULL \
                    AND (a.user_id IS NOT NULL OR a.group_id IS NOT NULL) AND (a.expires_at IS NULL OR a.expires_at > $2)";
    let begins = begins(&place.labels);
    let batch = Batch::new().text("selector_label", begins.iter().map(String::as_str));
    tx.bulk_rows(&batch, selected, args![tenant, now], |row| {
        if covers(&target(row, 2, 3)?, place.place()) { add(row) } else { Ok(()) }
    })
    .await?;
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Labels::new(pairs.collect()).unwrap()
    }

    #[test]
    fn a_selector_begins_with_its_first_label() {
        assert_eq!(first(r#"{"env":"prod","zone":"b"}"#), r#"{"env":"prod""#);
        assert_eq!(first(r#"{"env":"prod"}"#), r#"{"env":"prod"}"#);
        let begins = begins(&labels(&[("env", "a,b"), ("zone", "")]));
        assert_eq!(
            begins.iter().map(String::as_str).collect::<Vec<_>>(),
            [r#"{"env":"a"#, r#"{"zone":"""#, r#"{"zone":""}"#]
        );
    }

    proptest! {
        #[test]
        fn what_a_selector_begins_with_and_is_told_apart_by_is_in_all_that_it_selects(
            has in proptest::collection::btree_map("[a-c]", r#"[ab,"\\{}: é]{0,3}"#, 0..4),
            extra in proptest::collection::btree_map("[a-c]", r#"[ab,"\\{}: é]{0,3}"#, 0..2),
            picked in any::<u8>(),
        ) {
            let sound = |map: &BTreeMap<String, String>| Labels::new(map.clone());
            let mut wanted: BTreeMap<String, String> =
                has.iter().enumerate().filter(|(at, _)| picked >> at & 1 == 1).map(|(_, (name, value))| (name.clone(), value.clone())).collect();
            if picked >> 7 == 1 {
                wanted.extend(extra);
            }
            prop_assume!(!wanted.is_empty());
            let (Ok(has), Ok(wanted)) = (sound(&has), sound(&wanted)) else { return Ok(()) };
            let selects = wanted.as_map().iter().all(|(name, value)| has.as_map().get(name) == Some(value));
            if selects {
                prop_assert!(begins(&has).contains(first(&json!(wanted).to_string())));
                let text = serde_json::to_string(&has).unwrap();
                prop_assert!(text.contains(&told_apart(&wanted).unwrap()));
            }
        }
    }
}
