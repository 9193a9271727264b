//! Writes `packs/schema/{aws,host,network,snmp}.json` from `docs/schema/*.md`: `cargo run -p compliance --example schema`.
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let doc = |name: &str| fs::read_to_string(root.join("docs/schema").join(name));
    let aws = compliance::schema_doc::aws(&doc("aws-properties.md")?, &doc("aws-types.md")?);
    let host = compliance::schema_doc::host(&doc("host.md")?);
    let network = compliance::schema_doc::network_scan(&doc("network-scan.md")?);
    let snmp = compliance::schema_doc::snmp(&doc("snmp.md")?);
    for (name, schema) in [("aws", aws), ("host", host), ("network", network), ("snmp", snmp)] {
        let path = root.join(format!("packs/schema/{name}.json"));
        fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&schema)?))?;
        println!("{}", path.display());
    }
    Ok(())
}
