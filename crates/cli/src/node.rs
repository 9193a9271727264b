//! The asset graph: nodes and edges.

use clap::{Subcommand, ValueEnum};
use wire::node::{Edge, Node, NodeCount, NodeSource, NodeVersion};

use crate::api::{Context, Paging};
use crate::failure::Result;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List nodes
    List {
        /// Only this type; a * at the end stands for any rest
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Only of this source
        #[arg(long)]
        provider: Option<String>,
        /// Only in this region
        #[arg(long)]
        region: Option<String>,
        /// Only with this name
        #[arg(long)]
        name: Option<String>,
        /// Also what has disappeared
        #[arg(long)]
        closed: bool,
        /// As the graph was at this moment (RFC 3339)
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
        /// Only what changed at this moment (RFC 3339) or later; with --closed also what disappeared since
        #[arg(long, value_name = "TIME")]
        changed_since: Option<String>,
        /// Only what was seen first at this moment (RFC 3339) or later
        #[arg(long, value_name = "TIME")]
        first_seen_since: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a node
    Show {
        /// Its id
        node: String,
        /// As it was at this moment (RFC 3339)
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
    },
    /// List what a node was from when to when
    History {
        /// Its id
        node: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// List who says that a node is there
    Sources {
        /// Its id
        node: String,
    },
    /// Count the nodes of each type
    Counts,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EdgeCommand {
    /// List edges
    List {
        /// Only of this node
        #[arg(long)]
        node: Option<String>,
        /// Which edges of the node
        #[arg(long, value_enum, requires = "node")]
        direction: Option<Direction>,
        /// Only this type
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// As the graph was at this moment (RFC 3339)
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Direction {
    /// Those that reach it
    In,
    /// Those that leave it
    Out,
    /// All
    Both,
}

impl Table for Node {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("TYPE", "type"),
        ("NAME", "name"),
        ("REGION", "region"),
        ("LAST SEEN", "discovered_at"),
        ("CLOSED", "closed_at"),
        ("ID", "id"),
    ];
}

impl Table for NodeVersion {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("FROM", "valid_from"), ("TO", "valid_to"), ("NAME", "name"), ("PROPERTIES", "properties"), ("TAGS", "tags")];
}

impl Table for NodeSource {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("SOURCE", "source"),
        ("SCOPE", "scope"),
        ("COUNTS", "counts"),
        ("SINCE", "since"),
        ("LAST READ", "read_at"),
        ("COVERAGE", "verdict"),
    ];
}

impl Table for Edge {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("SOURCE", "source"), ("TYPE", "type"), ("TARGET", "target"), ("SINCE", "valid_from")];
}

impl Table for NodeCount {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[("TYPE", "type"), ("COUNT", "count")];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { kind, provider, region, name, closed, as_of, changed_since, first_seen_since, paging } => {
                let query = [
                    ("type", kind.as_deref()),
                    ("provider", provider.as_deref()),
                    ("region", region.as_deref()),
                    ("name", name.as_deref()),
                    ("closed", closed.then_some("true")),
                    ("as_of", as_of.as_deref()),
                    ("changed_since", changed_since.as_deref()),
                    ("first_seen_since", first_seen_since.as_deref()),
                ];
                api.show_list::<Node>(&["nodes"], &query, paging).await
            }
            Self::Show { node, as_of } => {
                api.out.one(&api.get_with(&["nodes", &node], &[("as_of", as_of.as_deref())]).await?)
            }
            Self::History { node, paging } => {
                api.show_list::<NodeVersion>(&["nodes", &node, "history"], &[], paging).await
            }
            Self::Sources { node } => api.show_list::<NodeSource>(&["nodes", &node, "sources"], &[], Paging::ALL).await,
            Self::Counts => api.show_list::<NodeCount>(&["node-counts"], &[], Paging::ALL).await,
        }
    }
}

impl EdgeCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        let Self::List { node, direction, kind, as_of, paging } = self;
        let direction = direction.map(|direction| match direction {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Both => "both",
        });
        let query = [
            ("node", node.as_deref()),
            ("direction", direction),
            ("type", kind.as_deref()),
            ("as_of", as_of.as_deref()),
        ];
        api.show_list::<Edge>(&["edges"], &query, paging).await
    }
}
