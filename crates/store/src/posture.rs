//! How frameworks stand, and how they stood day by day.
//!
//! An evaluation notes a framework's numbers only where they differ from the last ones, in its own transaction: a request counts a few hundred
//! controls and reads a few rows, however many verdicts there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use access::ops;
use compliance::{ControlOutcome, ControlResult};
use domain::{Error, Result, TenantId, Timestamp};

use crate::bulk::Batch;
use crate::db::{Row, Tx, args};
use crate::job::{count, stored};
use crate::unit::Read;

const DAY_MS: i64 = 86_400_000;

/// A framework in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Controls that pass.
    pub pass: u64,
    /// Controls that pass in part.
    pub partial: u64,
    /// Controls that fail.
    pub fail: u64,
    /// Controls that could not be judged.
    pub not_assessed: u64,
    /// Open findings of the rules of its controls.
    pub open_findings: u64,
}

impl Standing {
    /// Of the controls that were judged the share that passes, in whole percent: 100 only where all do. None where none was judged.
    pub fn percent(&self) -> Option<u64> {
        self.pass.checked_mul(100)?.checked_div(self.pass + self.partial + self.fail)
    }

    /// Adds controls with this result.
    fn add(&mut self, result: &str, controls: u64) -> Result<()> {
        *match result {
            "pass" => &mut self.pass,
            "partial" => &mut self.partial,
            "fail" => &mut self.fail,
            "not_assessed" => &mut self.not_assessed,
            other => return Err(Error::internal(format!("a control's result is `{other}`"))),
        } += controls;
        Ok(())
    }
}

/// How a framework stood on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostureDay {
    /// When the day began, in UTC.
    pub day: Timestamp,
    /// As the day's last evaluation had it; a day without one as the day before.
    pub standing: Standing,
}

/// How a framework stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostureRow {
    /// The framework.
    pub framework: String,
    /// As it is now.
    pub now: Standing,
    /// When it was last judged.
    pub evaluated_at: Timestamp,
    /// Every day since the first that is known, up to today, which is as it is now.
    pub history: Vec<PostureDay>,
}

/// The UTC day of a moment, in days since 1970.
const fn day_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(DAY_MS)
}

/// `at`: where the five numbers begin.
fn standing(row: &Row, at: usize) -> Result<Standing> {
    Ok(Standing {
        pass: count(row, at)?,
        partial: count(row, at + 1)?,
        fail: count(row, at + 2)?,
        not_assessed: count(row, at + 3)?,
        open_findings: count(row, at + 4)?,
    })
}

/// Open findings by rule.
async fn open_by_rule(tx: &mut Tx, tenant: TenantId) -> Result<HashMap<String, u64>> {
    let sql = "SELECT rule_id, COUNT(*) FROM finding WHERE tenant_id = $1 AND status = 'open' GROUP BY rule_id";
    let rows = tx.rows(sql, args![tenant]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, count(row, 1)?))).collect()
}

/// Notes how the frameworks stand today, where that differs from what was noted last.
pub(crate) async fn note(
    tx: &mut Tx,
    tenant: TenantId,
    at: Timestamp,
    outcomes: impl Iterator<Item = &ControlOutcome>,
) -> Result<()> {
    let mut frameworks: BTreeMap<&str, (Standing, BTreeSet<&str>)> = BTreeMap::new();
    for outcome in outcomes {
        let (standing, rules) = frameworks.entry(&outcome.framework).or_default();
        *match outcome.result {
            ControlResult::Pass => &mut standing.pass,
            ControlResult::Partial => &mut standing.partial,
            ControlResult::Fail => &mut standing.fail,
            ControlResult::NotAssessed => &mut standing.not_assessed,
        } += 1;
        rules.extend(outcome.rules.iter().map(String::as_str));
    }
    let open = open_by_rule(tx, tenant).await?;
    let today = day_of(at);
    let rows = tx
        .rows(
            "SELECT framework, pass, partial, fail, not_assessed, open_findings FROM posture_day d WHERE tenant_id = $1 AND day = \
             (SELECT MAX(l.day) FROM posture_day l WHERE l.tenant_id = $1 AND l.framework = d.framework AND l.day <= $2)",
            args![tenant, today],
        )
        .await?;
    let last: HashMap<String, Standing> =
        rows.iter().map(|row| Ok((row.text(0)?, standing(row, 1)?))).collect::<Result<_>>()?;
    let changed: Vec<(&str, Standing)> = frameworks
        .into_iter()
        .map(|(framework, (mut standing, rules))| {
            standing.open_findings = rules.iter().filter_map(|rule| open.get(*rule)).sum();
            (framework, standing)
        })
        .filter(|(framework, standing)| last.get(*framework) != Some(standing))
        .collect();
    let number = |of: fn(&Standing) -> u64| changed.iter().map(move |(_, standing)| stored(of(standing)));
    let batch = Batch::new()
        .text("framework", changed.iter().map(|(framework, _)| *framework))
        .i64("pass", number(|it| it.pass))
        .i64("partial", number(|it| it.partial))
        .i64("fail", number(|it| it.fail))
        .i64("not_assessed", number(|it| it.not_assessed))
        .i64("open_findings", number(|it| it.open_findings));
    tx.bulk(
        &batch,
        "INSERT INTO posture_day (tenant_id, framework, day, pass, partial, fail, not_assessed, open_findings) \
         SELECT $1, v.framework, $2, v.pass, v.partial, v.fail, v.not_assessed, v.open_findings FROM v WHERE TRUE \
         ON CONFLICT (tenant_id, framework, day) DO UPDATE SET pass = excluded.pass, partial = excluded.partial, fail = excluded.fail, \
         not_assessed = excluded.not_assessed, open_findings = excluded.open_findings",
        args![tenant, today],
    )
    .await
    .map(drop)
}

/// Every day from the first that is known, at most `days` of them, to today: one on which nothing was noted is as the one before, and today is
/// as it is now. `noted`: by day.
fn history(noted: &BTreeMap<i64, Standing>, today: i64, days: u32, now: Standing) -> Vec<PostureDay> {
    let first = today - i64::from(days) + 1;
    let mut before = noted.range(..first).next_back().map(|(_, standing)| *standing);
    let mut history = Vec::new();
    for day in first..=today {
        before = noted.get(&day).copied().or(before);
        let standing = if day == today { Some(now) } else { before };
        let day = Timestamp::from_millis(day.saturating_mul(DAY_MS));
        history.extend(standing.map(|standing| PostureDay { day, standing }));
    }
    history
}

impl Read<ops::ControlList> {
    /// How each framework stands whose controls were judged, and stood in the last `days` days. `rules`: those of each framework's controls.
    pub async fn posture_list(
        &mut self,
        rules: &BTreeMap<String, BTreeSet<String>>,
        days: u32,
    ) -> Result<Vec<PostureRow>> {
        let (tenant, today) = (self.tenant(), day_of(self.store.clock().now()));
        let mut frameworks: BTreeMap<String, (Standing, Timestamp)> = BTreeMap::new();
        let sql = "SELECT framework, result, COUNT(*), MAX(evaluated_at) FROM control_result WHERE tenant_id = $1 GROUP BY framework, result";
        for row in self.tx.rows(sql, args![tenant]).await? {
            let at = row.time(3)?;
            let (standing, last) = frameworks.entry(row.text(0)?).or_insert((Standing::default(), at));
            standing.add(&row.text(1)?, count(&row, 2)?)?;
            *last = at.max(*last);
        }
        let open = open_by_rule(&mut self.tx, tenant).await?;
        // With the last row before the time that is asked for: it still held when that began.
        let rows = self
            .tx
            .rows(
                "SELECT framework, day, pass, partial, fail, not_assessed, open_findings FROM posture_day d \
                 WHERE tenant_id = $1 AND day >= COALESCE((SELECT MAX(l.day) FROM posture_day l \
                   WHERE l.tenant_id = $1 AND l.framework = d.framework AND l.day <= $2), $2)",
                args![tenant, today - i64::from(days) + 1],
            )
            .await?;
        let mut noted: HashMap<String, BTreeMap<i64, Standing>> = HashMap::new();
        for row in rows {
            noted.entry(row.text(0)?).or_default().insert(row.i64(1)?, standing(&row, 2)?);
        }
        Ok(frameworks
            .into_iter()
            .map(|(framework, (mut now, evaluated_at))| {
                let rules = rules.get(&framework);
                now.open_findings = rules.into_iter().flatten().filter_map(|rule| open.get(rule)).sum();
                let noted = noted.remove(&framework).unwrap_or_default();
                PostureRow { history: history(&noted, today, days, now), framework, now, evaluated_at }
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pass: u64, fail: u64) -> Standing {
        Standing { pass, fail, ..Standing::default() }
    }

    #[test]
    fn the_share_is_of_what_was_judged_and_whole_only_where_all_of_it_passes() {
        for (pass, partial, fail, not_assessed, expect) in [
            (0, 0, 0, 0, None),
            (0, 0, 0, 9, None),
            (0, 0, 3, 0, Some(0)),
            (2, 1, 0, 9, Some(66)),
            (999, 0, 1, 0, Some(99)),
            (5, 0, 0, 5, Some(100)),
        ] {
            let standing = Standing { pass, partial, fail, not_assessed, open_findings: 1 };
            assert_eq!(standing.percent(), expect, "{standing:?}");
        }
    }

    #[test]
    fn a_day_of_which_nothing_was_noted_is_as_the_one_before_and_today_is_as_it_is_now() {
        let days = |noted: &[(i64, Standing)], days| -> Vec<(i64, u64)> {
            let history = history(&noted.iter().copied().collect(), 100, days, with(9, 0));
            history.iter().map(|it| (it.day.as_millis() / DAY_MS, it.standing.pass)).collect()
        };
        assert_eq!(days(&[], 3), [(100, 9)], "nothing is known of earlier days");
        assert_eq!(days(&[(97, with(1, 1)), (99, with(2, 0))], 5), [(97, 1), (98, 1), (99, 2), (100, 9)]);
        assert_eq!(days(&[(40, with(1, 1))], 3), [(98, 1), (99, 1), (100, 9)], "what held before still holds");
        assert_eq!(days(&[(40, with(1, 1)), (98, with(3, 0))], 3), [(98, 3), (99, 3), (100, 9)]);
        assert_eq!(days(&[(100, with(4, 0)), (104, with(5, 0))], 1), [(100, 9)], "a clock that was set back");
    }
}
