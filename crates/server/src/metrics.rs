//! `/metrics`, for a scraper.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use domain::{Clock, Rng};
use gateway::Tasks;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ServerSection};
use crate::listen;

/// `/metrics` on its own listener, so that it can be kept inside.
pub(crate) async fn serve(
    config: &Config,
    limits: listen::Limits,
    tasks: &Tasks,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<(u16, tokio::task::JoinHandle<()>)>> {
    if config.server.metrics_listen.is_empty() {
        return Ok(None);
    }
    let address = config.server.metrics_listen.parse().context("server.metrics_listen")?;
    let builder = metrics_exporter_prometheus::PrometheusBuilder::new();
    let recorder = builder.set_buckets(&[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])?.build_recorder();
    let handle = recorder.handle();
    ::metrics::set_global_recorder(recorder).map_err(|_| anyhow::anyhow!("metrics were started twice"))?;
    let listener = match listen::bind(address, "server.metrics_listen").await {
        Ok(listener) => listener,
        // A second installation on one machine should not fail for want of a port that nobody asked for.
        Err(error) if config.server.metrics_listen == ServerSection::default().metrics_listen => {
            tracing::warn!(error = format!("{error:#}"), "no metrics");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let port = listener.local_addr()?.port();
    let (upkeep, ending) = (handle.clone(), stop.clone());
    tasks.spawn("upkeep of metrics", async move {
        // Samples pile up until they are folded into their buckets, also when nobody scrapes.
        while !ending.is_cancelled() {
            upkeep.run_upkeep();
            tokio::select! {
                () = ending.cancelled() => {}
                () = tokio::time::sleep(Duration::from_secs(5)) => {}
            }
        }
    });
    let router = axum::Router::new().route("/metrics", axum::routing::get(move || std::future::ready(handle.render())));
    let stop = stop.clone();
    let (clock, rng, drain) = (Arc::clone(clock), Arc::clone(rng), Duration::from_secs(1));
    let serving = tasks.spawn("metrics", listen::serve(listener, None, router, limits.few(), clock, rng, stop, drain));
    Ok(Some((port, serving)))
}
