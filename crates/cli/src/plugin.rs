//! Plugins of the server.

use clap::Subcommand;
use wire::credential::Plugin;

use crate::api::{Context, Paging};
use crate::failure::Result;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the plugins
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a plugin: its credential types, settings and node types
    Show {
        /// Its name
        plugin: String,
    },
}

impl Table for Plugin {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("NAME", "name"), ("VERSION", "version"), ("ABOUT", "about")];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.platform()?;
        match self {
            Self::List { paging } => api.show_list::<Plugin>(&["plugins"], &[], paging).await,
            Self::Show { plugin } => api.out.one(&api.find(&["plugins"], "name", &plugin, "plugin").await?),
        }
    }
}
