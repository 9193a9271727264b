//! nftables' ruleset as JSON, else iptables-save; ufw and firewalld where they are set up.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::Result;
use serde_json::{Value, json};
use transport::CallError;

use super::scope::Scope;
use super::text;

const OUTPUT_BYTES: usize = 16 * 1_024 * 1_024;
const TIMEOUT: Duration = Duration::from_secs(20);
const RULES: usize = 500;

/// A ruleset in few words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ruleset {
    policies: BTreeMap<String, String>,
    rules: Vec<String>,
    count: usize,
    loopback: bool,
}

impl Ruleset {
    fn policy(&mut self, chain: &str, policy: &str) {
        let chain = chain.to_ascii_lowercase();
        let entry = self.policies.entry(chain).or_default();
        // A packet passes only if every base chain of a hook lets it.
        if entry != "drop" && entry != "reject" {
            policy.to_ascii_lowercase().clone_into(entry);
        }
    }

    fn rule(&mut self, rule: String) {
        self.count += 1;
        if self.rules.len() < RULES {
            self.rules.push(text::printable(&rule, 400));
        }
    }

    fn denies(&self, chain: &str) -> bool {
        self.policies.get(chain).is_some_and(|policy| policy == "drop" || policy == "reject")
    }

    fn node(&self, tool: &str) -> Value {
        json!({
            "tool": tool, "active": self.count > 0 || self.policies.values().any(|policy| policy != "accept"), "policies": self.policies,
            "rules": self.count, "rule_list": self.rules, "default_deny_inbound": self.denies("input"), "default_deny_forward": self.denies("forward"),
            "loopback_accepted": self.loopback,
        })
    }
}

/// `nft -j list ruleset`, of schema version 1.
fn nftables(bytes: &[u8]) -> Option<Ruleset> {
    let parsed: Value = serde_json::from_slice(bytes).ok()?;
    let mut out = Ruleset::default();
    for item in parsed.get("nftables")?.as_array()? {
        if let Some(chain) = item.get("chain")
            && let Some(hook) = chain.get("hook").and_then(Value::as_str)
            && chain.get("type").and_then(Value::as_str) == Some("filter")
        {
            out.policy(hook, chain.get("policy").and_then(Value::as_str).unwrap_or("accept"));
        }
        if let Some(rule) = item.get("rule") {
            let word = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or("?");
            let expressions = rule.get("expr").and_then(Value::as_array).cloned().unwrap_or_default();
            // Counters move by themselves.
            let expressions: Vec<Value> =
                expressions.into_iter().filter(|expression| expression.get("counter").is_none()).collect();
            let text = Value::from(expressions).to_string();
            out.loopback |= text.contains("\"iif") && text.contains("\"lo\"") && text.contains("\"accept\"");
            out.rule(format!("{} {} {}: {text}", word("family"), word("table"), word("chain")));
        }
    }
    Some(out)
}

/// `iptables-save`: the filter table's policies, every table's rules.
fn iptables(saved: &str) -> Ruleset {
    let (mut out, mut table) = (Ruleset::default(), "");
    for (_, line) in text::lines(saved) {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            if let (Some(name), Some(policy)) = (chain.split_whitespace().next(), chain.split_whitespace().nth(1))
                && policy != "-"
                && table == "filter"
            {
                out.policy(name, policy);
            }
        } else if line.starts_with("-A ") {
            out.loopback |= line.contains("-A INPUT") && line.contains("-i lo") && line.ends_with("-j ACCEPT");
            out.rule(format!("{table}: {line}"));
        }
    }
    out
}

/// Runs a tool: its output, nothing when it is not installed, a problem when it fails.
async fn run(scope: &mut Scope<'_>, argv: &[&str]) -> (bool, Option<bytes::Bytes>) {
    let tag = scope.source.tag(true);
    let name = argv.join(" ");
    match scope.source.reach.command(argv, OUTPUT_BYTES, TIMEOUT, &tag).await {
        Ok(output) if output.code == 0 => (true, Some(output.stdout.body)),
        Ok(output) => {
            let said = text::printable(output.stderr.trim(), 120);
            let denied =
                ["not permitted", "ermission denied", "you must be root"].iter().any(|words| said.contains(words));
            let error = if denied {
                CallError::Denied(said)
            } else {
                CallError::Malformed(format!("exit code {}: {said}", output.code))
            };
            scope.source.failed(&name, &error);
            (true, None)
        }
        Err(CallError::NotFound(_)) => (false, None),
        Err(error) => {
            scope.source.failed(&name, &error);
            (true, None)
        }
    }
}

/// One node per tool that is there.
pub(super) async fn collect(scope: &mut Scope<'_>) -> Result<Option<String>> {
    let mut any = false;
    let (there, output) = run(scope, &["nft", "-j", "list", "ruleset"]).await;
    any |= there;
    if let Some(output) = output {
        match nftables(&output) {
            Some(ruleset) => _ = scope.node("host.firewall", "nftables", "nftables", ruleset.node("nftables")).await?,
            None => scope.source.problem("nft -j list ruleset: not the JSON of libnftables-json(5)"),
        }
    }
    for (program, tool) in [("iptables-save", "iptables"), ("ip6tables-save", "ip6tables")] {
        let (there, output) = run(scope, &[program]).await;
        any |= there;
        if let Some(output) = output {
            scope.node("host.firewall", tool, tool, iptables(&text::lossy(&output)).node(tool)).await?;
        }
    }
    if let Some(config) = scope.source.config("/etc/ufw/ufw.conf").await {
        any = true;
        let defaults = text::assignments(&scope.source.config("/etc/default/ufw").await.unwrap_or_default());
        let policy = |key: &str| defaults.get(key).map(|policy| policy.to_ascii_lowercase());
        let (input, forward) = (policy("DEFAULT_INPUT_POLICY"), policy("DEFAULT_FORWARD_POLICY"));
        let denies = |policy: &Option<String>| policy.as_deref().is_some_and(|policy| policy != "accept");
        let properties = json!({
            "tool": "ufw", "active": text::assignments(&config).get("ENABLED").is_some_and(|value| value == "yes"),
            "policies": { "input": input, "forward": forward, "output": policy("DEFAULT_OUTPUT_POLICY") },
            "default_deny_inbound": denies(&input), "default_deny_forward": denies(&forward),
        });
        scope.node("host.firewall", "ufw", "ufw", properties).await?;
    }
    if let Some(config) = scope.source.config("/etc/firewalld/firewalld.conf").await {
        any = true;
        let active = !scope.source.glob("/etc/systemd/system/*.wants/firewalld.service").await.is_empty();
        let zone = text::assignments(&config).remove("DefaultZone").unwrap_or_else(|| "public".into());
        let properties = json!({ "tool": "firewalld", "active": active, "default_zone": zone, "default_deny_inbound": active && zone != "trusted" });
        scope.node("host.firewall", "firewalld", "firewalld", properties).await?;
    }
    if any {
        return Ok(None);
    }
    let none = json!({ "tool": "none", "active": false, "rules": 0, "default_deny_inbound": false, "default_deny_forward": false });
    scope.node("host.firewall", "none", "no firewall", none).await?;
    Ok(Some("no firewall program is installed".into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn iptables_policies_come_from_the_filter_table_only() {
        let got = iptables(
            "*nat\n:INPUT ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [9:9]\n:mine - [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n",
        );
        assert!(got.denies("input") && got.loopback);
        assert_eq!((got.count, got.policies.len()), (1, 1));
    }

    #[test]
    fn nftables_base_chains_add_up_and_counters_are_left_out() {
        let got = nftables(
            br#"{"nftables":[{"metainfo":{}},{"chain":{"family":"inet","table":"f","name":"a","type":"filter","hook":"input","policy":"drop"}},
            {"chain":{"family":"ip","table":"g","name":"b","type":"filter","hook":"input","policy":"accept"}},
            {"rule":{"family":"inet","table":"f","chain":"a","expr":[{"counter":{"packets":7}},{"accept":null}]}}]}"#,
        )
        .unwrap();
        assert!(got.denies("input"));
        assert_eq!(got.rules, [r#"inet f a: [{"accept":null}]"#]);
        assert_eq!(nftables(b"{"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes: Vec<u8>, text in "(?s).{0,200}") {
            let _ = (nftables(&bytes), iptables(&text));
        }
    }
}
