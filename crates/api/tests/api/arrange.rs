//! More of a world: members, invitations, keys, sessions of the command line.

use access::Role;
use domain::TenantId;
use serde_json::{Value, json};
use store::Placed;

use crate::world::{World, holder};

impl World {
    /// Gives somebody a role in a tenant by its administrator, and has them take it up.
    pub(crate) async fn join(&self, by: &str, members: &str, email: &str, role: &str) {
        let body = json!({"email": email, "role": role});
        assert_eq!(self.by(by, "PUT", members, Some(body)).await.is(200).json["state"], "invited");
        self.tokens.lock().await.remove(email);
        self.token(email).await;
    }

    /// An invitation that waits.
    pub(crate) async fn invitation(&self, tenant: TenantId) -> String {
        let email = format!("invited{}@example.org", self.fresh()).parse().unwrap();
        let Placed::Invited(row) = self.invite(tenant, &email, Role::ReadOnly).await else { panic!("{email}") };
        row.id.to_string()
    }

    /// An API key of a tenant's `system-admin`: its id and its secret. `more`: what else the request says.
    pub(crate) async fn api_key(&self, tenant: TenantId, role: Role, more: Value) -> (String, String) {
        let owner = holder(Role::SystemAdmin, if tenant == self.a { 'a' } else { 'b' });
        let mut body = json!({"name": format!("key {}", self.fresh()), "role": role.as_str()});
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let path = format!("/api/v1/tenants/{tenant}/api-keys");
        let made = self.by(&owner, "POST", &path, Some(body)).await.is(201);
        (made.json["api_key"]["id"].as_str().unwrap().to_owned(), made.json["secret"].as_str().unwrap().to_owned())
    }

    /// A session of the command line.
    pub(crate) async fn cli_session(&self, email: &str) -> String {
        let from = self.sign_in(email).await;
        let made =
            self.call("POST", "/api/v1/cli-sessions", Some(&from), Some(json!({"client": "test"}))).await.is(201);
        made.json["token"].as_str().unwrap().to_owned()
    }
}
