//! Schedules, where what they name is no longer there.

use domain::FleetKind;
use serde_json::{Value, json};

use crate::fleet::{Machine, by};
use crate::world::{admin, each_engine};

#[test]
fn a_schedule_of_a_revoked_relay_can_be_paused_and_not_resumed() {
    each_engine(|world| async move {
        let relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let schedules = "/api/v1/tenants/acme/schedules";
        let new = json!({"plugin": "host", "relay": relay.id, "interval_s": 3600});
        let made = by(&world, &admin(), "POST", schedules, Some(new)).await.is(201).json;
        by(&world, &admin(), "DELETE", &format!("/api/v1/tenants/acme/relays/{}", relay.id), None).await.is(204);
        let path = format!("{schedules}/{}", made["id"].as_str().unwrap());
        let change = async |body: Value| by(&world, &admin(), "PATCH", &path, Some(body)).await;
        assert_eq!(change(json!({"paused": true})).await.is(200).json["paused"], true);
        change(json!({"interval_s": 7200})).await.is(200);
        change(json!({"paused": false})).await.is(400).says("relay");
        change(json!({"paused": false, "relay": ""})).await.is(200);
    });
}
