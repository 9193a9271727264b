//! A database that is in trouble: told in words that say what to do, and nothing is half done.

use access::ops;
use domain::{Error, Secret};

use crate::world::each_engine;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_is_told_and_takes_up_where_it_was() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let before = world.rows_of(a, "audit_record").await;
        let Some(lock) = world.lock().await else { return };
        let add = async || {
            let unit = world.store.write(world.permit::<ops::CredentialCreate>(a)).await?;
            unit.credential_create("aws", &"one".parse()?, "aws-keys", &Secret::new("x")).await
        };
        let error = add().await.unwrap_err();
        assert!(
            matches!(&error, Error::Unavailable { message, .. } if message.contains("busy: try again")),
            "{error:?}"
        );
        drop(lock);
        assert_eq!(world.rows_of(a, "audit_record").await, before);
        add().await.unwrap();
    })
    .await;
}
