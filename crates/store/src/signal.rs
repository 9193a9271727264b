//! Signs between servers: PostgreSQL's NOTIFY, so that work is begun at once on the server that can do it.
//!
//! A sign says where to look and is never believed: whoever misses one finds the same in the database, a little later. Behind a pooler that
//! gives each transaction another connection nothing is heard, and every server looks once a second as it does on SQLite.

use std::time::Duration;

use domain::{RelayId, Result};
use sqlx::postgres::PgListener;
use tokio::sync::broadcast;

use crate::Store;
use crate::db::{Db, Engine, Tx, args, failed};

/// The channel on which work is announced.
pub(crate) const WORK: &str = "cairn_work";
/// The channel on which servers ask for a relay's sign of life.
pub(crate) const RELAYS: &str = "cairn_relay";
/// How long to wait before listening anew.
const AGAIN: Duration = Duration::from_secs(1);

/// Announces work to the other servers, with the transaction.
pub(crate) async fn announce_work(tx: &mut Tx) -> Result<()> {
    if tx.engine() == Engine::Pg {
        tx.execute("SELECT pg_notify($1, '')", args![WORK]).await?;
    }
    Ok(())
}

impl Store {
    /// Listens to the other servers, until it is dropped. Does nothing on SQLite.
    pub async fn listen(&self) {
        let Db::Pg(pool) = self.db() else { return std::future::pending().await };
        loop {
            if let Err(error) = self.listen_once(pool).await {
                tracing::debug!(%error, "other servers are not heard");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn listen_once(&self, pool: &sqlx::PgPool) -> Result<()> {
        let mut listener = PgListener::connect_with(pool).await.map_err(failed)?;
        listener.listen_all([WORK, RELAYS]).await.map_err(failed)?;
        // What was announced while nobody listened.
        self.say_work_queued();
        loop {
            let sign = listener.recv().await.map_err(failed)?;
            match sign.channel() {
                WORK => self.say_work_queued(),
                _ => {
                    if let Ok(relay) = sign.payload().parse::<uuid::Uuid>() {
                        // Nobody may be listening.
                        let _ = self.inner.signals.relays.send(RelayId::from_uuid(relay));
                    }
                }
            }
        }
    }

    /// Relays about which another server asks whether they are alive.
    pub fn relay_questions(&self) -> broadcast::Receiver<RelayId> {
        self.inner.signals.relays.subscribe()
    }
}
