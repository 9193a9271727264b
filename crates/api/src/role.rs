//! Roles: what each may do, from the one table that decides.

use access::Permission;
use axum::Json;
use wire::List;
use wire::role::Role;

use crate::caller::Caller;
use crate::page;
use crate::problem::Answer;

/// Every role with its permissions.
#[utoipa::path(get, path = "/api/v1/roles", tag = "members", responses((status = 200, description = "roles", body = List<Role>)))]
pub(crate) async fn role_list(caller: Caller) -> Answer<Json<List<Role>>> {
    caller.may_work()?;
    let named = |held: &mut dyn Iterator<Item = &Permission>| held.map(ToString::to_string).collect();
    let roles = access::Role::ALL.iter().map(|role| {
        let held = || Permission::ALL.iter().filter(|permission| role.holds(**permission));
        Role {
            name: role.to_string(),
            permissions: named(&mut held()),
            not_by_key: named(&mut held().filter(|permission| permission.is_for_people())),
        }
    });
    Ok(page::whole(roles.collect()))
}
