//! The asset graph as a whole.

use clap::{Args, Subcommand, ValueEnum};
use wire::graph::{GraphAffected, GraphElement, GraphMoment, GraphNeighbor, GraphNode, GraphPath};

use crate::api::{Api, Context, Paging};
use crate::doc::Doc;
use crate::failure::{Failure, Result};
use crate::output::Format;
use crate::table::Table;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum By {
    /// The account, or the source and region of what is in none
    Account,
    /// The VPC, the machine, the device, or what an address is in
    Network,
    /// The type
    Kind,
    /// The region
    Region,
    /// The source
    Provider,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Direction {
    /// Along the edges
    Out,
    /// Against them
    In,
    /// Both ways
    Any,
    /// As trouble travels: to what depends on a thing, and to what it holds, runs as or reaches
    Impact,
}

fn word<T: ValueEnum>(value: Option<T>) -> Option<String> {
    value.and_then(|value| value.to_possible_value()).map(|value| value.get_name().to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// What nodes are put together by [default: account]
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Only this type; a * at the end stands for any rest
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only of this source
    #[arg(long)]
    provider: Option<String>,
    /// Only in this region
    #[arg(long)]
    region: Option<String>,
    /// Only in this account
    #[arg(long)]
    account: Option<String>,
    /// Only in this network
    #[arg(long)]
    network: Option<String>,
    /// As the graph was at this moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Way {
    /// Which way edges are followed [default: out for a path, impact for reach]
    #[arg(long, value_enum)]
    direction: Option<Direction>,
    /// Only over edges of these types, with commas between them
    #[arg(long = "type", value_name = "TYPES")]
    types: Option<String>,
    /// At most this many edges [default: 16]
    #[arg(long, value_name = "N")]
    hops: Option<u32>,
    /// As the graph was at this moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PathCommand {
    /// The id of the first node
    from: String,
    /// The id of the last node
    to: String,
    #[command(flatten)]
    way: Way,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the graph in groups, the largest first
    Overview {
        #[command(flatten)]
        which: Which,
        /// Only nodes with this in their name or id
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only nodes with this tag
        #[arg(long, value_name = "NAME=VALUE")]
        tag: Option<String>,
        /// At most this many groups; what does not fit is one [default: 200]
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// List the nodes of a group
    Members {
        /// What they have in common, as the overview shows it; all nodes without
        group: Option<String>,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        paging: Paging,
    },
    /// List the nodes beside a node, and by which edges
    Neighbors {
        /// Its id
        node: String,
        /// As the graph was at this moment (RFC 3339)
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show the shortest path between two nodes
    Path(PathCommand),
    /// Show what something that happens to a node affects
    Reach {
        /// Its id
        node: String,
        #[command(flatten)]
        way: Way,
        /// Name at most this many; all are counted [default: 100]
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// List when discovery changed the graph
    Moments {
        /// At most this many: changes close to each other are told as one [default: 100]
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
}

impl Table for GraphElement {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("GROUP", "group"),
        ("NODES", "nodes"),
        ("ONLY NAMED", "unseen"),
        ("EDGES INSIDE", "inside"),
        ("FINDINGS", "findings"),
    ];
}

const NODE: &[(&str, &str)] = &[
    ("TYPE", "type"),
    ("NAME", "name"),
    ("ACCOUNT", "account"),
    ("NETWORK", "network"),
    ("EDGES", "edges"),
    ("ID", "id"),
];

impl Table for GraphNode {
    const COLUMNS: &'static [(&'static str, &'static str)] = NODE;
}

impl Table for GraphNeighbor {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("TO IT", "out"), ("FROM IT", "in"), ("TYPE", "type"), ("NAME", "name"), ("ID", "id")];
}

impl Table for GraphAffected {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("EDGES AWAY", "distance"), ("TYPE", "type"), ("NAME", "name"), ("ACCOUNT", "account"), ("ID", "id")];
}

impl Table for GraphMoment {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("AT", "at"),
        ("NODES NEW", "nodes_begun"),
        ("NODES GONE", "nodes_ended"),
        ("EDGES NEW", "edges_begun"),
        ("EDGES GONE", "edges_ended"),
    ];
}

impl Which {
    fn query<'q>(&'q self, by: Option<&'q str>) -> [(&'q str, Option<&'q str>); 7] {
        [
            ("by", by),
            ("kind", self.kind.as_deref()),
            ("provider", self.provider.as_deref()),
            ("region", self.region.as_deref()),
            ("account", self.account.as_deref()),
            ("network", self.network.as_deref()),
            ("as_of", self.as_of.as_deref()),
        ]
    }
}

pub(crate) fn number(doc: &Doc, field: &str) -> u64 {
    match doc.field(field) {
        Some(Doc::Number(number)) => number.as_u64().unwrap_or_default(),
        _ => 0,
    }
}

/// An element of an overview with what can be read of it on one line.
fn line(element: &Doc) -> Doc {
    let Doc::Map(fields) = element else { return element.clone() };
    let findings = element.field("findings").map_or_else(String::new, |findings| {
        let of = |name: &str| match number(findings, name) {
            0 => None,
            count => Some(format!("{count} {name}")),
        };
        ["critical", "high", "medium", "low", "info"].into_iter().filter_map(of).collect::<Vec<_>>().join(", ")
    });
    let group = match element.text("kind") {
        "others" => format!("({} other groups)", number(element, "groups")),
        _ if element.text("group").is_empty() => "(none)".to_owned(),
        _ => element.text("group").to_owned(),
    };
    let rest = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "findings" | "group")).cloned();
    let told = [("group".to_owned(), Doc::Text(group)), ("findings".to_owned(), Doc::Text(findings))];
    Doc::Map(told.into_iter().chain(rest).collect())
}

async fn overview(api: &Api, query: &[(&str, Option<&str>)]) -> Result {
    let doc = api.get_with(&["graph"], query).await?;
    if api.out.format != Format::Table {
        return api.out.one(&doc);
    }
    api.out.list::<GraphElement>(doc.items("elements").iter().map(line).collect())?;
    let total = match doc.field("nodes_total") {
        Some(_) => format!("{} nodes, {} edges; ", number(&doc, "nodes_total"), number(&doc, "edges_total")),
        None => String::new(),
    };
    let stale = matches!(doc.field("current"), Some(Doc::Bool(false)));
    let changed = if stale { ", and the graph has changed since" } else { "" };
    api.out.say(&format!("{total}as of {}{changed}", doc.text("as_of")));
    Ok(())
}

impl PathCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let (api, way) = (cx.tenant()?, self.way);
        let (direction, hops) = (word(way.direction), way.hops.map(|hops| hops.to_string()));
        let query = [
            ("to", Some(self.to.as_str())),
            ("direction", direction.as_deref()),
            ("types", way.types.as_deref()),
            ("hops", hops.as_deref()),
            ("as_of", way.as_of.as_deref()),
        ];
        let doc = api.get_with(&["nodes", &self.from, "path"], &query).await?;
        let path: GraphPath =
            doc.parse().map_err(|error| Failure::new(format!("the server's answer is no path: {error}")))?;
        if api.out.format == Format::Table {
            let ways = path.steps.iter().map(|step| {
                let types = step.types.join(", ");
                if step.forward { format!("-{types}->") } else { format!("<-{types}-") }
            });
            let ways = std::iter::once(String::new()).chain(ways);
            let lines = ways.zip(doc.items("nodes")).map(|(way, node)| {
                let fields = if let Doc::Map(fields) = node { fields.clone() } else { Vec::new() };
                Doc::Map(std::iter::once(("way".to_owned(), Doc::Text(way))).chain(fields).collect())
            });
            let columns = [("OVER", "way"), ("TYPE", "type"), ("NAME", "name"), ("ID", "id")];
            let columns = columns.map(|(title, field)| (title.to_owned(), field.to_owned()));
            if path.found {
                crate::output::Output::lines(&columns, &lines.collect::<Vec<_>>())?;
            }
        } else {
            api.out.one(&doc)?;
        }
        if path.found {
            Ok(())
        } else {
            Err(Failure::new("there is no path between these nodes within these edges")
                .hint("--direction any, --hops N"))
        }
    }
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::Overview { which, search, tag, limit } => {
                let (by, limit) = (word(which.by), limit.map(|limit| limit.to_string()));
                let more = [("search", search.as_deref()), ("tag", tag.as_deref()), ("elements", limit.as_deref())];
                let query: Vec<_> = which.query(by.as_deref()).into_iter().chain(more).collect();
                overview(&api, &query).await
            }
            Self::Members { group, which, paging } => {
                let by = word(which.by);
                let query: Vec<_> =
                    which.query(by.as_deref()).into_iter().chain([("group", group.as_deref())]).collect();
                api.show_list::<GraphNode>(&["graph", "members"], &query, paging).await
            }
            Self::Neighbors { node, as_of, paging } => {
                let query = [("as_of", as_of.as_deref())];
                api.show_list::<GraphNeighbor>(&["nodes", &node, "neighbors"], &query, paging).await
            }
            Self::Path(command) => command.run(cx).await,
            Self::Reach { node, way, limit } => {
                let (direction, hops) = (word(way.direction), way.hops.map(|hops| hops.to_string()));
                let limit = limit.map(|limit| limit.to_string());
                let query = [
                    ("direction", direction.as_deref()),
                    ("types", way.types.as_deref()),
                    ("hops", hops.as_deref()),
                    ("as_of", way.as_of.as_deref()),
                    ("limit", limit.as_deref()),
                ];
                let doc = api.get_with(&["nodes", &node, "reach"], &query).await?;
                if api.out.format != Format::Table {
                    return api.out.one(&doc);
                }
                api.out.list::<GraphAffected>(doc.items("nodes").to_vec())?;
                let more = match doc.field("goes_on") {
                    Some(Doc::Bool(true)) => ", and more beyond these edges: --hops N",
                    _ => "",
                };
                let (nodes, unseen) = (number(&doc, "nodes_total"), number(&doc, "unseen_total"));
                api.out.say(&format!("{nodes} nodes are affected, and {unseen} that are only named{more}"));
                Ok(())
            }
            Self::Moments { limit } => {
                let limit = limit.map(|limit| limit.to_string());
                let moments = api.all_with(&["graph", "moments"], &[("limit", limit.as_deref())]).await?;
                api.out.list::<GraphMoment>(moments)
            }
        }
    }
}
