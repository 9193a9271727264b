//! The cluster's own authority, read again when its file changes: clusters rotate it, and a relay that kept the old one would reach nothing until somebody
//! started it anew.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::ClientConfig;

/// The file, and what it held.
pub(super) struct Authority {
    path: PathBuf,
    seen: Vec<u8>,
}

impl Authority {
    /// The file as it is now, and TLS that trusts it and nobody else.
    pub(super) fn open(path: PathBuf) -> anyhow::Result<(Self, Arc<ClientConfig>)> {
        let seen = std::fs::read(&path).with_context(|| format!("`{}`", path.display()))?;
        let authority = Self { path, seen };
        let tls = authority.tls()?;
        Ok((authority, tls))
    }

    fn tls(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let trust = fleet::Trust::of_file(&self.path)?;
        Ok(Arc::new(fleet::Tls::new(trust).client_config(&[b"http/1.1"])?))
    }

    /// TLS anew, if the file holds something else than before. What is no authority changes nothing: it may be half written.
    pub(super) fn changed(&mut self) -> Option<Arc<ClientConfig>> {
        let now = std::fs::read(&self.path).ok().filter(|now| *now != self.seen)?;
        match self.tls() {
            Ok(tls) => {
                tracing::info!(path = %self.path.display(), "the cluster has another authority from now on");
                self.seen = now;
                Some(tls)
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the cluster's new authority is not used yet");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway::kubernetes::{Cluster, TokenFile};
    use http::Method;
    use testkit::KubeApi;

    use super::*;

    #[test]
    fn a_cluster_whose_authority_rotates_is_reached_without_a_new_start() {
        crypto::tls::install();
        let api = KubeApi::start("the-relay");
        let folder = tempfile::tempdir().unwrap();
        let (path, token) = (folder.path().join("ca.crt"), folder.path().join("token"));
        std::fs::write(&token, "the-relay").unwrap();
        // The one before: the API server has a certificate of another one by now.
        std::fs::write(&path, testkit::kube::certificates().0).unwrap();
        let (mut authority, tls) = Authority::open(path.clone()).unwrap();
        let cluster = Cluster::new(&api.address(), tls, TokenFile::new(token)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert!(cluster.ask(Method::GET, "/version", None).await.is_err());
            assert!(authority.changed().is_none(), "the same as before");
            std::fs::write(&path, "-----BEGIN CERT").unwrap();
            assert!(authority.changed().is_none(), "half of it");
            std::fs::write(&path, &api.authority).unwrap();
            cluster.trust(authority.changed().unwrap());
            assert_eq!(cluster.ask(Method::GET, "/version", None).await.unwrap().0, 200);
            assert!(authority.changed().is_none());
        });
        std::fs::remove_file(&path).unwrap();
        assert!(authority.changed().is_none());
        assert!(Authority::open(path).is_err());
    }
}
