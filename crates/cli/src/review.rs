//! Reviews of access.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use domain::Timestamp;
use wire::access_review::{AccessReview, AccessReviewCreate, AccessReviewDecide, AccessReviewItem, AccessReviewScope};

use crate::api::{Api, Context, Paging};
use crate::client::not_ours;
use crate::failure::{Failure, Result};
use crate::fleet::label;
use crate::table::Table;

/// Most items that a server decides at once.
const AT_ONCE: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the reviews that you were asked to decide, or all if you manage access
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one, and what is reviewed in it
    Show {
        /// Its id
        id: String,
        /// Only what nobody decided yet
        #[arg(long)]
        undecided: bool,
        #[command(flatten)]
        paging: Paging,
    },
    /// Begin one: what gives access is written down as it is now
    Create(Create),
    /// Say of some items whether they stay; what is revoked is taken now
    Decide(Decide),
    /// Close one before its end: it ends in signed evidence
    Close {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What people call it
    name: String,
    /// Who decides, by login name; may be given more than once
    #[arg(long = "reviewer", value_name = "NAME", required = true)]
    reviewers: Vec<String>,
    /// Until when it is open, such as 2026-12-31T18:00:00Z
    #[arg(long, value_name = "TIME")]
    ends_at: Timestamp,
    /// What becomes of what nobody decides
    #[arg(long, value_parser = ["keep", "revoke"])]
    undecided: String,
    /// Only access to this destination; may be given more than once, like all that follow
    #[arg(long = "destination", value_name = "NAME")]
    destinations: Vec<String>,
    /// Only access to destinations with these labels
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only what this group has, and who is in it
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// Only what this member has
    #[arg(long = "user", value_name = "NAME")]
    users: Vec<String>,
    /// Only access in this role
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// The review's id
    id: String,
    /// What is decided
    #[arg(value_parser = ["keep", "revoke"])]
    decision: String,
    /// The items' numbers, such as 3 or 10-20
    #[arg(value_name = "ITEM", required_unless_present = "all_undecided", conflicts_with = "all_undecided")]
    items: Vec<String>,
    /// Everything that nobody decided yet
    #[arg(long)]
    all_undecided: bool,
    /// Why
    #[arg(long)]
    reason: String,
}

impl Table for AccessReview {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("STATE", "state"),
        ("ITEMS", "items"),
        ("DECIDED", "decided"),
        ("REVOKED", "revoked"),
        ("ENDS", "ends_at"),
        ("UNDECIDED", "undecided"),
        ("ID", "id"),
    ];
}

impl Table for AccessReviewItem {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ITEM", "number"),
        ("KIND", "kind"),
        ("ABOUT", "about"),
        ("DECISION", "decision"),
        ("OUTCOME", "outcome"),
        ("REASON", "reason"),
    ];
}

/// Numbers and ranges of numbers.
fn numbers(texts: &[String]) -> Result<Vec<i64>> {
    let mut all = Vec::new();
    for text in texts {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = first.parse::<i64>().ok().zip(last.parse::<i64>().ok());
        let range = range.filter(|(first, last)| *first > 0 && first <= last && last - first < 100_000);
        let (first, last) =
            range.ok_or_else(|| Failure::usage(format!("`{text}` is no item: use a number such as 3, or 10-20")))?;
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { paging } => api.show_list::<AccessReview>(&["access-reviews"], &[], paging).await,
            Self::Show { id, undecided, paging } => {
                if api.out.format == crate::output::Format::Table {
                    api.out.one(&api.get(&["access-reviews", &id]).await?)?;
                }
                let query = [("status", undecided.then_some("undecided"))];
                api.show_list::<AccessReviewItem>(&["access-reviews", &id, "items"], &query, paging).await
            }
            Self::Create(new) => {
                let labels: BTreeMap<_, _> = new.labels.into_iter().collect();
                let scope = AccessReviewScope {
                    destinations: new.destinations,
                    labels: (!labels.is_empty()).then_some(labels),
                    groups: new.groups,
                    users: new.users,
                    roles: new.roles,
                };
                let (reviewers, undecided, ends_at) = (new.reviewers, new.undecided, new.ends_at);
                let body = AccessReviewCreate { name: new.name, scope, reviewers, undecided, ends_at };
                api.out.row::<AccessReview>(api.post(&["access-reviews"], &body).await?)
            }
            Self::Decide(decide) => decide.run(&api).await,
            Self::Close { id } => api.out.one(&api.act(&["access-reviews", &id, "close"]).await?),
        }
    }
}

impl Decide {
    async fn run(self, api: &Api) -> Result {
        let items = if self.all_undecided {
            let left = api.all_with(&["access-reviews", &self.id, "items"], &[("status", Some("undecided"))]).await?;
            let number = |item: &crate::doc::Doc| item.parse::<AccessReviewItem>().map(|item| item.number);
            left.iter().map(number).collect::<Result<_, _>>().map_err(|_| not_ours())?
        } else {
            numbers(&self.items)?
        };
        let mut last = None;
        for some in items.chunks(AT_ONCE) {
            let body = AccessReviewDecide {
                items: some.to_vec(),
                decision: self.decision.clone(),
                reason: self.reason.clone(),
            };
            last = Some(api.post(&["access-reviews", &self.id, "decide"], &body).await?);
        }
        let Some(review) = last else {
            api.out.say("everything is decided already");
            return Ok(());
        };
        api.out.row::<AccessReview>(review)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_numbers_and_ranges() {
        let all = |texts: &[&str]| numbers(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(all(&["3", "1-2", "2"]).unwrap(), [1, 2, 3]);
        for bad in ["0", "x", "3-1", "-1", "1-", "1-1000000", ""] {
            assert!(all(&[bad]).is_err(), "{bad}");
        }
    }
}
