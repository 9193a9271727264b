//! Units of work: a read or a write of one operation in one tenant.
//!
//! [`Write::commit`] is the only way to keep a change, and it appends the audit record in the same transaction; dropping a unit undoes it.

use std::marker::PhantomData;

use access::{Operation, Permit, PlatformOperation, PlatformPermit, ReadOperation, TenantOperation, WriteOperation};
use domain::{AuditId, Condition, Error, Result, TenantId, Version};
use uuid::Uuid;

use crate::Store;
use crate::audit::{self, Change, StatementLeaf};
use crate::db::{Engine, Row, Tx, Value, args};

/// The tenant of zeros: the platform's own audit log.
pub(crate) fn platform_tenant() -> TenantId {
    TenantId::from_uuid(Uuid::nil())
}

/// Reads under one permit, on one snapshot.
pub struct Read<O> {
    pub(crate) tx: Tx,
    pub(crate) permit: Permit<O>,
    pub(crate) store: Store,
}

/// A change under one permit.
pub struct Write<O> {
    pub(crate) tx: Tx,
    pub(crate) permit: Permit<O>,
    pub(crate) store: Store,
    /// Statements that were written and become leaves of the log with the change's record: at the end, where its head is locked last.
    pub(crate) statements: Vec<StatementLeaf>,
    condition: Condition,
}

/// A change of the installation under one permit.
pub struct PlatformWrite<O> {
    pub(crate) tx: Tx,
    pub(crate) permit: PlatformPermit<O>,
    pub(crate) store: Store,
    condition: Condition,
    operation: PhantomData<fn() -> O>,
}

/// Tells PostgreSQL whose rows this transaction may see. `true` ends it with the transaction, so that nothing leaks to the next user of a
/// pooled connection.
pub(crate) async fn enter(tx: &mut Tx, tenant: TenantId) -> Result<()> {
    if tx.engine() == Engine::Pg {
        tx.execute("SELECT set_config('cairn.tenant', $1, true)", args![tenant.as_uuid().to_string()]).await?;
    }
    Ok(())
}

/// Every row of one query in a tenant, which the query names as `$1`.
pub(crate) async fn look(store: &Store, tenant: TenantId, sql: String, values: &[Value]) -> Result<Vec<Row>> {
    if let Some(rows) = store.db().rows_alone(&sql, values).await? {
        return Ok(rows);
    }
    let mut tx = store.db().read().await?;
    enter(&mut tx, tenant).await?;
    tx.rows_built(sql, values).await
}

impl Store {
    /// Begins a read of one operation in the permit's tenant.
    pub async fn read<O: TenantOperation + ReadOperation>(&self, permit: Permit<O>) -> Result<Read<O>> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, permit.tenant()).await?;
        Ok(Read { tx, permit, store: self.clone() })
    }

    /// Begins a change of one operation in the permit's tenant.
    pub async fn write<O: TenantOperation + WriteOperation>(&self, permit: Permit<O>) -> Result<Write<O>> {
        let mut tx = self.db().write().await?;
        enter(&mut tx, permit.tenant()).await?;
        Ok(Write { tx, permit, store: self.clone(), statements: Vec::new(), condition: Condition::default() })
    }

    /// Begins a change of the installation.
    pub async fn write_platform<O: PlatformOperation + WriteOperation>(
        &self,
        permit: PlatformPermit<O>,
    ) -> Result<PlatformWrite<O>> {
        let mut tx = self.db().write().await?;
        enter(&mut tx, platform_tenant()).await?;
        Ok(PlatformWrite { tx, permit, store: self.clone(), condition: Condition::default(), operation: PhantomData })
    }
}

impl<O: Operation> Read<O> {
    pub(crate) fn tenant(&self) -> TenantId {
        self.permit.tenant()
    }
}

impl<O: Operation> Write<O> {
    /// The tenant that it acts in.
    pub fn tenant(&self) -> TenantId {
        self.permit.tenant()
    }

    /// Lets the change happen under this condition only. An operation that knows no conditions keeps nothing then.
    #[must_use]
    pub fn only_if(self, condition: Condition) -> Self {
        Self { condition, ..self }
    }

    /// Refuses the change where its condition does not hold; `now`: the state of what is changed, read while nobody else can change it.
    pub(crate) fn check(&mut self, what: &str, now: Option<&Version>) -> Result<()> {
        std::mem::take(&mut self.condition).check(what, now)
    }

    /// The same, in `words` of its own where something shall be made that is there already.
    pub(crate) fn check_saying(
        &mut self,
        what: &str,
        now: Option<&Version>,
        words: impl FnOnce() -> String,
    ) -> Result<()> {
        if self.condition.only.is_none() && self.condition.is_taken(now) {
            return Err(Error::Precondition { message: words() });
        }
        self.check(what, now)
    }

    /// Keeps the change together with its audit record.
    pub async fn commit(mut self, change: Change) -> Result<AuditId> {
        checked(&self.condition)?;
        let tenant = self.permit.tenant();
        let id =
            audit::append_with(&mut self.tx, tenant, self.permit.ctx(), O::NAME, &change, &self.statements).await?;
        self.tx.commit().await?;
        self.store.say_log_grew(tenant);
        Ok(id)
    }
}

impl<O: WriteOperation> Write<O> {
    /// Keeps changes of many things of one kind together with a record of each, under the verb of the operation that does the same to one of
    /// them: whoever looks for what was done to a thing finds it, however it was done.
    pub(crate) async fn commit_each(mut self, verb: &'static str, changes: Vec<Change>) -> Result<()> {
        checked(&self.condition)?;
        let tenant = self.permit.tenant();
        let ctx = self.permit.ctx();
        let changes: Vec<_> = changes.into_iter().map(|change| (ctx.clone(), change)).collect();
        audit::append_many(&mut self.tx, tenant, verb, &changes).await?;
        self.tx.commit().await?;
        self.store.say_log_grew(tenant);
        Ok(())
    }
}

/// Nothing is kept under a condition that nobody looked at.
fn checked(condition: &Condition) -> Result<()> {
    if condition.is_none() { Ok(()) } else { Err(Error::internal("the condition of a change was not looked at")) }
}

impl<O: Operation> PlatformWrite<O> {
    /// Lets the change happen under this condition only.
    #[must_use]
    pub fn only_if(self, condition: Condition) -> Self {
        Self { condition, ..self }
    }

    /// Refuses the change where its condition does not hold; `now`: the state of what is changed, read while nobody else can change it.
    pub(crate) fn check(&mut self, what: &str, now: Option<&Version>) -> Result<()> {
        std::mem::take(&mut self.condition).check(what, now)
    }

    /// Keeps the change together with its record in the platform's own log.
    pub async fn commit(mut self, change: Change) -> Result<AuditId> {
        checked(&self.condition)?;
        enter(&mut self.tx, platform_tenant()).await?;
        let id = audit::append(&mut self.tx, platform_tenant(), self.permit.ctx(), O::NAME, &change).await?;
        self.tx.commit().await?;
        self.store.say_log_grew(platform_tenant());
        Ok(id)
    }
}
