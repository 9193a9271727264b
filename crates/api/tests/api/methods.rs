//! Methods that no operation has, on every path.

use std::collections::BTreeSet;

use access::Role;

use crate::authorization::{Ask, Standing, ask};
use crate::document::operations;
use crate::world::{NODE, each_engine, holder};

#[test]
fn attack_37_head_options_and_method_overrides_open_nothing() {
    each_engine(|world| async move {
        let standing = Standing::new(&world, world.a).await;
        let viewer = world.token(&holder(Role::ReadOnly, 'a')).await;
        let all = operations();
        for operation in &all {
            let Ask { path, .. } = ask(&world, &standing, operation).await;
            let methods: BTreeSet<&str> =
                all.iter().filter(|other| other.path == operation.path).map(|other| other.method.as_str()).collect();
            for method in ["GET", "HEAD", "OPTIONS", "PATCH", "PUT", "POST", "DELETE", "TRACE", "PROPFIND", "get"] {
                if methods.contains(method) {
                    continue;
                }
                let answer = world.call(method, &path, Some(&viewer), None).await;
                if method == "HEAD" && methods.contains("GET") {
                    // HEAD is GET without the body: as allowed and as denied as that.
                    if operation.method == "GET" {
                        let get = world.call("GET", &path, Some(&viewer), None).await;
                        assert_eq!((answer.status, answer.text.as_str()), (get.status, ""), "{}", operation.id);
                    }
                } else {
                    assert_eq!(answer.status, 405, "{method} {}", operation.path);
                    assert!(
                        methods.iter().all(|method| answer.header("allow").contains(method)),
                        "{}: {}",
                        operation.path,
                        answer.header("allow")
                    );
                }
            }
        }
        let members = format!("/api/v1/tenants/{}/jobs", world.a);
        let last = world.audit(Some(world.a), -1).await.last().unwrap().0;
        for header in ["x-http-method-override", "x-http-method", "x-method-override"] {
            let request =
                http::Request::get(&members).header("authorization", format!("Bearer {viewer}")).header(header, "POST");
            world.send(request.body(axum::body::Body::empty()).unwrap()).await.is(403);
        }
        let left = world.audit(Some(world.a), last).await;
        assert!(
            left.iter().all(|(_, action, outcome)| (action.as_str(), outcome.as_str()) == ("job_list", "deny")),
            "{left:?}"
        );
        let read =
            world.by(&holder(Role::ReadOnly, 'a'), "GET", &format!("/api/v1/tenants/acme/nodes/{NODE}"), None).await;
        assert_eq!(read.is(200).json["id"], NODE);
    });
}
