//! Roles and what they may do.

use clap::Subcommand;

use crate::api::Context;
use crate::doc::Doc;
use crate::failure::Result;
use crate::output::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show which role holds which permission
    List,
    /// Show one role
    Show {
        /// Its name
        name: String,
    },
}

/// The roles as a matrix: a line per permission, in the order in which the roles first name them.
fn matrix(roles: &[Doc]) -> (Vec<(String, String)>, Vec<Doc>) {
    let mut permissions: Vec<&str> = Vec::new();
    let holds = |role: &Doc, permission: &str| {
        role.items("permissions").iter().any(|held| *held == Doc::Text(permission.to_owned()))
    };
    for role in roles {
        for permission in role.items("permissions") {
            if let Doc::Text(permission) = permission
                && !permissions.contains(&permission.as_str())
            {
                permissions.push(permission);
            }
        }
    }
    let names = roles.iter().map(|role| role.text("name").to_owned());
    let columns = std::iter::once(("PERMISSION".to_owned(), "permission".to_owned()))
        .chain(names.map(|name| (name.to_uppercase(), name)))
        .collect();
    let lines = permissions.iter().map(|permission| {
        let cells = roles.iter().map(|role| {
            let mark = if holds(role, permission) { "Y" } else { "" };
            (role.text("name").to_owned(), Doc::Text(mark.to_owned()))
        });
        Doc::Map(std::iter::once(("permission".to_owned(), Doc::Text((*permission).to_owned()))).chain(cells).collect())
    });
    (columns, lines.collect())
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.platform()?;
        match self {
            Self::List => {
                let roles = api.all(&["roles"]).await?;
                if api.out.format != Format::Table {
                    return api.out.one(&Doc::List(roles));
                }
                let (columns, lines) = matrix(&roles);
                crate::output::Output::lines(&columns, &lines)
            }
            Self::Show { name } => api.out.one(&api.find(&["roles"], "name", &name, "role").await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_a_line_per_permission_and_a_column_per_role() {
        let role = |name: &str, held: &[&str]| {
            let held = held.iter().map(|name| Doc::Text((*name).to_owned())).collect();
            Doc::Map(vec![("name".to_owned(), Doc::Text(name.to_owned())), ("permissions".to_owned(), Doc::List(held))])
        };
        let (columns, lines) = matrix(&[role("a", &["x", "y"]), role("b", &["y", "z"])]);
        let titles: Vec<&str> = columns.iter().map(|(title, _)| title.as_str()).collect();
        assert_eq!(titles, ["PERMISSION", "A", "B"]);
        let cells: Vec<[&str; 3]> =
            lines.iter().map(|line| [line.text("permission"), line.text("a"), line.text("b")]).collect();
        assert_eq!(cells, [["x", "Y", ""], ["y", "Y", "Y"], ["z", "", "Y"]]);
    }
}
