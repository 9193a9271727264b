//! Lists of the API server, read page by page.

use anyhow::bail;
use gateway::kubernetes::Cluster;
use http::{Method, StatusCode};
use serde_json::Value;

/// Items on one page.
const PAGE: usize = 500;
/// Most items that are looked at, of whatever kind they are.
const SEEN_MAX: usize = 200_000;

/// What was read of a list.
pub(super) struct Listed<T> {
    /// Of each item what was wanted.
    pub(super) items: Vec<T>,
    /// Whether that is everything.
    pub(super) whole: bool,
}

/// A list, of each item what `read` makes of it, as far as `max` of these and the page that they end on. `target` ends where its query goes on.
pub(super) async fn list<T>(
    cluster: &Cluster,
    target: &str,
    max: usize,
    read: impl Fn(&Value) -> Option<T>,
) -> anyhow::Result<Listed<T>> {
    let (mut items, mut seen, mut more) = (Vec::new(), 0, String::new());
    loop {
        let page = format!("{target}limit={PAGE}{more}");
        let (status, list) = cluster.ask(Method::GET, &page, None).await.map_err(anyhow::Error::msg)?;
        if !status.is_success() {
            bail!("the API server answers {status}{}", hint(status));
        }
        match list.get("items") {
            Some(Value::Array(page)) => {
                seen += page.len();
                items.extend(page.iter().filter_map(&read));
            }
            Some(Value::Null) => {}
            // Whoever takes that for a list without items takes everything for gone.
            _ => bail!("the API server answers with something that is no list"),
        }
        let next = list.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default();
        if next.is_empty() {
            return Ok(Listed { items, whole: true });
        }
        if items.len() > max || seen > SEEN_MAX {
            return Ok(Listed { items, whole: false });
        }
        let plain = next.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
        anyhow::ensure!(plain, "the API server goes on with something that is no mark");
        more = format!("&continue={next}");
    }
}

fn hint(status: StatusCode) -> &'static str {
    if status == StatusCode::FORBIDDEN { ": the relay's service account needs `list`" } else { "" }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use gateway::kubernetes::TokenFile;
    use serde_json::json;
    use testkit::KubeApi;

    use super::*;

    /// A double, as the relay's service account sees it.
    pub(in crate::cluster) fn cluster(api: &KubeApi) -> (Cluster, tempfile::TempDir) {
        crypto::tls::install();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "the-relay").unwrap();
        std::fs::write(folder.path().join("ca.crt"), &api.authority).unwrap();
        let trust = fleet::Trust::of_file(&folder.path().join("ca.crt")).unwrap();
        let tls = Arc::new(fleet::Tls::new(trust).client_config(&[b"http/1.1"]).unwrap());
        (Cluster::new(&api.address(), tls, TokenFile::new(folder.path().join("token"))).unwrap(), folder)
    }

    /// The double has a runtime of its own, which cannot be dropped within another.
    pub(in crate::cluster) fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn a_list_is_read_to_its_end_and_says_where_it_was_not() {
        let api = KubeApi::start("the-relay");
        for number in 0..1_100 {
            api.put(&format!("/api/v1/namespaces/n{number:04}"), json!({"kind": "Namespace"}));
        }
        let (cluster, _folder) = cluster(&api);
        let name = |item: &Value| Some(item.pointer("/metadata/name")?.as_str()?.to_owned());
        let listed = run(list(&cluster, "/api/v1/namespaces?", 10_000, name)).unwrap();
        assert!(listed.whole && listed.items.len() == 1_102 && listed.items.last().unwrap() == "n1099");
        // What nobody wants counts for nothing.
        let few = |item: &Value| name(item).filter(|name| name.ends_with("99"));
        let listed = run(list(&cluster, "/api/v1/namespaces?", 100, few)).unwrap();
        assert!(listed.whole && listed.items.len() == 11);
        let listed = run(list(&cluster, "/api/v1/namespaces?", 500, name)).unwrap();
        assert!(!listed.whole && listed.items.len() == 1_000);
        let odd = run(list(&cluster, "/version?", 500, name)).err().unwrap();
        assert!(odd.to_string().contains("no list"), "{odd}");
    }
}
