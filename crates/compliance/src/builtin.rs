//! The packs, schema and frameworks that are shipped inside the binary.

use crate::framework::Frameworks;
use crate::ruleset::Catalog;
use crate::schema::Schema;

macro_rules! shipped {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../../packs/", $path)))),*]
    };
}

/// Rule packs, as path and text.
pub const PACKS: [(&str, &str); 4] =
    shipped!["cis-aws-foundations.yaml", "linux-host.yaml", "network-devices.yaml", "network.yaml"];

/// Schema files, as path and text.
pub const SCHEMAS: [(&str, &str); 5] =
    shipped!["schema/aws.json", "schema/host.json", "schema/network.json", "schema/snmp.json", "schema/graph.json"];

/// Framework files, as path and text.
pub const FRAMEWORKS: [(&str, &str); 2] =
    shipped!["frameworks/nist-800-53-r5.json", "frameworks/cis-aws-foundations.json"];

/// What the shipped packs are checked against, and any other pack too. Fails only when a shipped file is broken, which a test rules out.
pub fn catalog() -> Result<Catalog, String> {
    Ok(Catalog { schema: Schema::parse(&SCHEMAS)?, frameworks: Frameworks::parse(&FRAMEWORKS)? })
}
