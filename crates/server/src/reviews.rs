//! Ends reviews of access whose time is over, and shows destinations in the graph that are not there yet.

use std::time::Duration;

use access::{OpCtx, ops};
use store::Store;
use tokio_util::sync::CancellationToken;

/// How often is looked.
const EVERY: Duration = Duration::from_mins(1);

/// Looks until the server stops. A failure is logged, and tried again a minute later.
pub(crate) async fn keep(store: Store, stop: CancellationToken) {
    if let Err(error) = fill(&store).await {
        tracing::error!(error = format!("{error:?}"), "destinations cannot be shown in the graph");
    }
    while !stop.is_cancelled() {
        if let Err(error) = close(&store, &stop).await {
            tracing::error!(error = format!("{error:?}"), "reviews of access cannot be ended");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Shows the destinations of all tenants that have no node.
async fn fill(store: &Store) -> domain::Result<()> {
    for tenant in store.tenants_with_destinations().await? {
        let ctx = OpCtx::system("destinations", tenant, store.clock().clone(), store.rng().clone());
        let shown = store.destination_nodes_fill(&ctx, tenant).await?;
        if shown > 0 {
            tracing::info!(%tenant, shown, "destinations are shown in the graph");
        }
    }
    Ok(())
}

async fn close(store: &Store, stop: &CancellationToken) -> domain::Result<()> {
    for (tenant, review) in store.access_reviews_due().await? {
        if stop.is_cancelled() {
            return Ok(());
        }
        let ctx = OpCtx::system("reviews", tenant, store.clock().clone(), store.rng().clone());
        let permit = ctx.authorize::<ops::AccessReviewClose>(tenant).map_err(domain::Error::from)?;
        match store.access_review_close(permit, review).await {
            Ok(row) => tracing::info!(%tenant, %review, name = row.name, "a review of access ended"),
            Err(error) => {
                tracing::error!(%tenant, %review, error = format!("{error:?}"), "a review of access cannot be ended");
            }
        }
    }
    Ok(())
}
