//! The first start: the first tenant, its administrator with a one-time password, and the machine that the server runs on as its first host.

use std::path::Path;
use std::sync::Arc;

use access::{OpCtx, ops};
use anyhow::Context as _;
use domain::{Clock, Rng};
use serde_json::Map;
use store::{NewJob, NewUser, Store};

/// The first administrator's login name.
pub(crate) const ADMIN: &str = "admin@localhost";

/// Makes what a new installation needs. Returns the one-time password, unless it was given in a file.
///
/// The password file, where there is one, replaces the generated password (for automation); its first line is the password.
pub(crate) async fn first_start(
    store: &Store,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
    password_file: Option<&Path>,
    bcrypt_cost: u32,
    own_host: bool,
) -> anyhow::Result<Option<String>> {
    let given = match password_file {
        None => None,
        Some(path) => {
            let bytes = crate::datadir::read_private(path)?;
            let text = String::from_utf8(bytes).context("the password file is not UTF-8")?;
            let line = text.lines().next().unwrap_or_default().to_owned();
            anyhow::ensure!(
                line.chars().count() >= domain::Limits::PASSWORD_CHARS_MIN,
                "the password in `{}` is shorter than 12 characters",
                path.display()
            );
            Some(line)
        }
    };
    let shown = given.is_none();
    let password = given.unwrap_or_else(|| api::one_time_password(&**rng));
    let password_hash = api::hash_one_time_password(&password, bcrypt_cost, &**rng)?;
    let platform = OpCtx::system_platform("first-start", Arc::clone(clock), Arc::clone(rng));
    let new = NewUser { name: "Administrator".parse()?, password_hash, platform_admin: true };
    let admin = store
        .write_platform(platform.authorize_platform::<ops::UserCreate>()?)
        .await?
        .user_create(&ADMIN.parse()?, &new)
        .await?;
    let tenant = store
        .write_platform(platform.authorize_platform::<ops::TenantCreate>()?)
        .await?
        .tenant_create(&"default".parse()?, &"Default".parse()?, Some(admin))
        .await?;
    if own_host {
        let ctx = OpCtx::system("first-start", tenant.id, Arc::clone(clock), Arc::clone(rng));
        let job =
            NewJob { relay: None, plugin: "host".to_owned(), credential: None, config: Map::new(), schedule: None };
        store.write(ctx.authorize::<ops::JobCreate>(tenant.id)?).await?.job_create(job).await?;
    }
    Ok(shown.then_some(password))
}
