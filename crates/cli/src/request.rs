//! Access that is asked for, broken glass, and what a tenant allows of both.

use clap::{Args, Subcommand};
use domain::{DestinationRole, Slug};
use wire::grant::{
    AccessPolicy, AccessRequest, AccessRequestAnswer, AccessRequestCreate, BreakGlass, Grant, Requestable,
};

use crate::api::{Api, Context, Paging};
use crate::failure::{Failure, Result};
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// Where to: a destination's name
    destination: String,
    /// As what: a role of the destination
    #[arg(long)]
    role: DestinationRole,
    /// Only in this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<Slug>,
    /// For how long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    for_s: u32,
    /// Why
    #[arg(long)]
    reason: String,
}

impl From<Ask> for AccessRequestCreate {
    fn from(ask: Ask) -> Self {
        let Ask { destination, role, namespace, for_s, reason } = ask;
        Self { destination, role, namespace, duration_s: for_s, reason }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tenant's requests, the newest first
    List {
        /// Only those that wait for an answer
        #[arg(long)]
        pending: bool,
        #[command(flatten)]
        paging: Paging,
    },
    /// List your own requests
    Mine {
        #[command(flatten)]
        paging: Paging,
    },
    /// List the eligible grants by which you may ask
    Eligible {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one
    Show {
        /// Its id
        id: String,
    },
    /// Ask for access; somebody else approves it
    Create(Ask),
    /// Take back one of your own
    Withdraw {
        /// Its id
        id: String,
    },
    /// Grant what is asked for, from now on
    Approve {
        /// Its id
        id: String,
        /// What to say to who asked
        #[arg(long, value_name = "TEXT")]
        answer: Option<String>,
    },
    /// Refuse what is asked for
    Deny {
        /// Its id
        id: String,
        /// What to say to who asked
        #[arg(long, value_name = "TEXT")]
        answer: Option<String>,
    },
}

impl Table for AccessRequest {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("WHO", "email"),
        ("DESTINATION", "name"),
        ("ROLE", "role"),
        ("NAMESPACE", "namespace"),
        ("SECONDS", "duration_s"),
        ("STATE", "state"),
        ("ELIGIBLE", "eligible"),
        ("REASON", "reason"),
        ("SINCE", "created_at"),
        ("ID", "id"),
    ];
}

const REQUESTS: &str = "access-requests";

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        let answer = async |id: &str, what: &str, answer| {
            api.out.row::<AccessRequest>(api.post(&[REQUESTS, id, what], &AccessRequestAnswer { answer }).await?)
        };
        match self {
            Self::List { pending, paging } => {
                let query = [("status", pending.then_some("pending"))];
                api.show_list::<AccessRequest>(&[REQUESTS], &query, paging).await
            }
            Self::Mine { paging } => api.show_list::<AccessRequest>(&[REQUESTS, "mine"], &[], paging).await,
            Self::Eligible { paging } => api.show_list::<Grant>(&["eligible"], &[], paging).await,
            Self::Show { id } => api.out.one(&api.get(&[REQUESTS, &id]).await?),
            Self::Create(ask) => {
                api.out.row::<AccessRequest>(api.post(&[REQUESTS], &AccessRequestCreate::from(ask)).await?)
            }
            Self::Withdraw { id } => {
                api.tell(&[REQUESTS, &id, "withdraw"]).await?;
                api.out.say(&format!("{id} is taken back"));
                Ok(())
            }
            Self::Approve { id, answer: text } => answer(&id, "approve", text).await,
            Self::Deny { id, answer: text } => answer(&id, "deny", text).await,
        }
    }
}

/// Takes access at once.
pub(crate) async fn break_glass(ask: Ask, cx: &Context) -> Result {
    let api = cx.tenant()?;
    let doc = api.post(&["break-glass"], &AccessRequestCreate::from(ask)).await?;
    crate::output::warn("this is an alarm: it is in the audit log with your name and your reason");
    api.out.row::<Grant>(doc)
}

fn requestable(text: &str) -> Result<Requestable, String> {
    match text {
        "any" => Ok(Requestable::Any),
        "eligible" => Ok(Requestable::Eligible),
        _ => Err("use any or eligible".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Policy {
    /// The longest time that may be asked for, in seconds
    #[arg(long, value_name = "SECONDS")]
    request_s_max: Option<u32>,
    /// What may be asked for: anything, or only what an eligible grant covers
    #[arg(long, value_name = "any|eligible", value_parser = requestable)]
    requests: Option<Requestable>,
    /// The group whose members may break glass
    #[arg(long, value_name = "NAME")]
    break_glass_group: Option<String>,
    /// For how long they may, in seconds
    #[arg(long, value_name = "SECONDS")]
    break_glass_s_max: Option<u32>,
    /// Let nobody break glass
    #[arg(long, conflicts_with_all = ["break_glass_group", "break_glass_s_max"])]
    no_break_glass: bool,
}

impl Policy {
    pub(crate) async fn run(self, api: &Api) -> Result {
        let path = ["access-policy"];
        let (now, tag) = api.get_tagged(&path).await?;
        let Self { request_s_max, requests, break_glass_group, break_glass_s_max, no_break_glass } = self;
        let says = request_s_max.is_some() || requests.is_some();
        if !says && break_glass_group.is_none() && break_glass_s_max.is_none() && !no_break_glass {
            return api.out.one(&now);
        }
        let mut policy: AccessPolicy = now.parse().map_err(|_| crate::client::not_ours())?;
        policy.request_s_max = request_s_max.unwrap_or(policy.request_s_max);
        policy.requests = requests.unwrap_or(policy.requests);
        let before = policy.break_glass.take();
        if !no_break_glass {
            let group = break_glass_group.or_else(|| before.as_ref().map(|glass| glass.group.clone()));
            let s_max = break_glass_s_max.or_else(|| before.as_ref().map(|glass| glass.s_max));
            policy.break_glass = match (group, s_max) {
                (Some(group), s_max) => Some(BreakGlass { group, s_max: s_max.unwrap_or(3_600) }),
                (None, None) => None,
                (None, Some(_)) => return Err(Failure::usage("who may break glass?").hint("--break-glass-group NAME")),
            };
        }
        api.out.one(&api.put_over(tag, &path, &policy).await?)
    }
}
