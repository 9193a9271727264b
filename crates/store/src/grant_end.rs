//! Grants that end because somebody takes them, or what they were about: each leaves a row that says when, for whoever asks what changed.

use domain::{DestinationId, Error, GrantId, GroupId, Result, TenantId, Timestamp, UserId};

use crate::db::{Tx, args};

/// For how long an ending is remembered: longer than anybody can ask back.
const REMEMBERED_MS: i64 = 400 * 86_400_000;

/// Which grants end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    /// This one.
    Grant(GrantId),
    /// Those to a destination.
    Destination(DestinationId),
    /// Those to a group.
    Group(GroupId),
    /// Those to a user.
    User(UserId),
}

/// The statements for one column: what is remembered and goes because it was approved under one of these, and these themselves. One that has expired
/// ended by itself.
macro_rules! statements {
    ($column:literal) => {
        [
            concat!(
                "INSERT INTO access_grant_end (tenant_id, id, ended_at) SELECT tenant_id, id, $3 FROM access_grant WHERE tenant_id = $1 \
                 AND rests_on IN (SELECT id FROM access_grant WHERE tenant_id = $1 AND ",
                $column,
                " = $2) AND (expires_at IS NULL OR expires_at > $3) ON CONFLICT (tenant_id, id) DO NOTHING"
            ),
            concat!(
                "DELETE FROM access_grant WHERE tenant_id = $1 AND rests_on IN (SELECT id FROM access_grant WHERE tenant_id = $1 AND ",
                $column,
                " = $2)"
            ),
            concat!(
                "INSERT INTO access_grant_end (tenant_id, id, ended_at) SELECT tenant_id, id, $3 FROM access_grant WHERE tenant_id = $1 AND ",
                $column,
                " = $2 AND (expires_at IS NULL OR expires_at > $3) ON CONFLICT (tenant_id, id) DO NOTHING"
            ),
            concat!("DELETE FROM access_grant WHERE tenant_id = $1 AND ", $column, " = $2"),
        ]
    };
}

/// Ends grants, with what was approved under eligible ones among them; how many there were without that.
pub(crate) async fn end(tx: &mut Tx, tenant: TenantId, ending: Ending, now: Timestamp) -> Result<u64> {
    Ok(both(tx, tenant, ending, now).await?.0)
}

/// How many grants were ended, and how many that were approved under them.
async fn both(tx: &mut Tx, tenant: TenantId, ending: Ending, now: Timestamp) -> Result<(u64, u64)> {
    let (columns, of) = match ending {
        Ending::Grant(id) => (vec![statements!("id")], id.as_uuid()),
        Ending::Destination(id) => (vec![statements!("destination_id"), statements!("set_id")], id.as_uuid()),
        Ending::Group(id) => (vec![statements!("group_id"), statements!("may_group_id")], id.as_uuid()),
        Ending::User(id) => (vec![statements!("user_id"), statements!("may_user_id")], id.as_uuid()),
    };
    let forgotten = now.plus_millis(-REMEMBERED_MS);
    tx.execute("DELETE FROM access_grant_end WHERE tenant_id = $1 AND ended_at < $2", args![tenant, forgotten]).await?;
    let (mut grants, mut approved) = (0, 0);
    for [remember_resting, end_resting, remember, delete] in columns {
        tx.execute(remember_resting, args![tenant, of, now]).await?;
        approved += tx.execute(end_resting, args![tenant, of]).await?;
        tx.execute(remember, args![tenant, of, now]).await?;
        grants += tx.execute(delete, args![tenant, of]).await?;
    }
    Ok((grants, approved))
}

/// Takes one grant; how many ended with it that were approved under it.
pub(crate) async fn take(tx: &mut Tx, tenant: TenantId, id: GrantId, now: Timestamp) -> Result<u64> {
    match both(tx, tenant, Ending::Grant(id), now).await? {
        (0, _) => Err(Error::NotFound { what: "grant" }),
        (_, approved) => Ok(approved),
    }
}
