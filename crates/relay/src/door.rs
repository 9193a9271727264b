//! Where a user's connection goes that comes over the server's channel.

use gateway::StreamHandle;
use wire::frame::Reason;
use wire::relay::Connect;

use crate::cluster;

/// The ways in through the server.
pub(crate) struct Doors {
    /// To the cluster that the relay serves, if it serves one.
    pub(crate) cluster: Option<cluster::Door>,
    /// To hosts.
    #[cfg(feature = "ssh")]
    pub(crate) hosts: crate::hosts::Hosts,
}

impl Doors {
    /// Serves what comes over a stream that began with these words.
    pub(crate) async fn serve(&self, stream: StreamHandle, beginning: &[u8]) {
        let connect: Connect = match serde_json::from_slice(beginning) {
            Ok(connect) => connect,
            Err(error) => return stream.close(Reason::Protocol, &error.to_string()),
        };
        match &self.cluster {
            Some(door) if door.leads_to(connect.destination) => door.serve(stream, connect).await,
            #[cfg(feature = "ssh")]
            _ => self.hosts.serve(stream, connect).await,
            #[cfg(not(feature = "ssh"))]
            _ => stream.close(Reason::Done, "this relay serves another destination, or none yet"),
        }
    }
}
