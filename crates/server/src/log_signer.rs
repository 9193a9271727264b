//! Signs checkpoints in the background, soon after a log grew: a record that nobody asked about is covered all the same.

use std::time::Duration;

use store::Store;
use tokio_util::sync::CancellationToken;

/// How long a log may grow before its checkpoint is signed: one signature for a burst, not one for each record.
const GATHER: Duration = Duration::from_millis(500);
/// How often every log is looked at, also those that another server let grow before it died.
const ALL: Duration = Duration::from_mins(1);

/// Runs until `stop`, and then once more, so that what was written last is covered too.
pub(crate) async fn run(store: Store, stop: CancellationToken) {
    let mut all = tokio::time::interval(ALL);
    all.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut growth = store.log_growth();
    loop {
        let mut every = false;
        tokio::select! {
            () = stop.cancelled() => break,
            _ = all.tick() => every = true,
            _ = growth.changed() => {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(GATHER) => {}
                }
            }
        }
        sign(&store, every).await;
    }
    sign(&store, false).await;
}

async fn sign(store: &Store, every: bool) {
    if let Err(error) = store.sign_checkpoints(every).await {
        metrics::counter!("cairn_log_checkpoint_failures_total").increment(1);
        tracing::warn!(%error, "a checkpoint was not signed; tried again");
    }
}
