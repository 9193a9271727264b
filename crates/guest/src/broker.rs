//! Makes a plugin's calls, by credential id, and remembers how they ended: what a plugin says of a scope has to agree.

use std::collections::BTreeMap;

use domain::{Coverage, ScopeId};
use serde_json::{Map, Value};
use transport::{CallError, CallTag, Reach, Reply};

use crate::allow;
use crate::manifest::Manifest;
use crate::observe::clean;
use crate::proto;

/// Headers of replies that no plugin needs, and that may hold what is secret.
const WITHHELD: &[&str] =
    &["authorization", "proxy-authenticate", "proxy-authorization", "set-cookie", "www-authenticate"];
/// Largest reply that is passed on, in bytes; whole messages are at most 4 MiB.
const REPLY_BYTES: usize = 3 * 1_024 * 1_024;

/// How the calls of one scope ended.
#[derive(Debug, Default)]
struct Ended {
    answered: u64,
    /// What was asked and never answered well, and why.
    troubles: BTreeMap<String, String>,
}

/// The broker of one run.
pub(crate) struct Broker<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) settings: &'a Map<String, Value>,
    pub(crate) reach: &'a dyn Reach,
    calls: u64,
    scopes: BTreeMap<ScopeId, Ended>,
}

fn refusal(code: &str, message: &str) -> proto::CallReply {
    let what = proto::Refusal { code: code.to_owned(), message: clean(message, 500) };
    proto::CallReply { what: Some(proto::call_reply::What::Refusal(what)) }
}

fn code(error: &CallError) -> &'static str {
    match error {
        CallError::Denied(_) => "denied",
        CallError::NotFound(_) => "not_found",
        CallError::Throttled(_) => "throttled",
        CallError::Timeout(_) => "timeout",
        CallError::TooLarge { .. } | CallError::TooMany { .. } | CallError::Limit(_) => "too_large",
        CallError::Malformed(_) => "malformed",
        CallError::Unreachable(_) => "unreachable",
        CallError::Credential(_) => "credential",
        CallError::Api { .. } => "api",
        CallError::Cancelled => "cancelled",
    }
}

fn answer(reply: Reply) -> proto::CallReply {
    let headers = reply.headers.into_iter().filter(|(name, _)| !WITHHELD.contains(&name.as_str()));
    let what = proto::Reply {
        status: u32::from(reply.status),
        headers: headers.map(|(name, value)| proto::Pair { name, value }).collect(),
        body: reply.body.to_vec(),
    };
    proto::CallReply { what: Some(proto::call_reply::What::Reply(what)) }
}

/// What a call asks, so that a second try of it is known as one.
fn question(call: &proto::Call) -> String {
    match &call.what {
        Some(proto::call::What::Http(http)) => {
            let query: Vec<String> = http.query.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
            let body = crypto::sha256(&http.body).to_hex();
            format!("{} {}{}?{}#{body}", http.method, http.origin, http.path, query.join("&"))
        }
        Some(proto::call::What::Aws(aws)) => {
            let params: Vec<String> = aws.params.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
            format!("{}:{} {} {}{}", aws.service, aws.operation, aws.region, params.join("&"), aws.json)
        }
        None => String::new(),
    }
}

impl<'a> Broker<'a> {
    pub(crate) fn new(manifest: &'a Manifest, settings: &'a Map<String, Value>, reach: &'a dyn Reach) -> Self {
        Self { manifest, settings, reach, calls: 0, scopes: BTreeMap::new() }
    }

    async fn ask(&self, call: proto::Call, tag: &CallTag) -> Result<Reply, (&'static str, String)> {
        let of = |error: CallError| (code(&error), error.to_string());
        if self.calls > self.manifest.limits.calls {
            return Err(("limit", format!("more than {} calls were asked for", self.manifest.limits.calls)));
        }
        // A credential that is another job's and one that does not exist are answered alike.
        let own = self.reach.credential().map(|id| id.to_string()).unwrap_or_default();
        if !call.credential_id.is_empty() && call.credential_id != own {
            return Err(("credential", "this job has no such credential".to_owned()));
        }
        let absent = |what: &str| ("credential", format!("this job has no credential for {what}"));
        match call.what {
            Some(proto::call::What::Http(http)) => {
                let mut http = allow::http(self.manifest, self.settings, http).map_err(|why| ("not_allowed", why))?;
                http.authenticated = !call.credential_id.is_empty();
                self.reach.http().ok_or_else(|| absent("HTTPS"))?.call(http, tag).await.map_err(of)
            }
            Some(proto::call::What::Aws(aws)) => {
                let aws = allow::aws(self.manifest, aws).map_err(|why| ("not_allowed", why))?;
                if call.credential_id.is_empty() {
                    return Err(("credential", "calls of AWS name the job's credential".to_owned()));
                }
                self.reach.aws().ok_or_else(|| absent("AWS"))?.call(aws, tag).await.map_err(of)
            }
            None => Err(("malformed", "a call says what to ask".to_owned())),
        }
    }

    /// Makes a call, if it may be made; the answer in any case.
    pub(crate) async fn call(&mut self, scope: ScopeId, call: proto::Call) -> proto::CallReply {
        self.calls += 1;
        let about = Some(clean(&call.about, 200)).filter(|about| !about.is_empty());
        let tag = CallTag { scope: scope.clone(), about, keep: call.keep };
        let question = question(&call);
        let result = match self.ask(call, &tag).await {
            Ok(reply) if reply.body.len() > REPLY_BYTES => {
                Err(("too_large", format!("the reply is larger than {REPLY_BYTES} bytes")))
            }
            other => other,
        };
        let ended = self.scopes.entry(scope).or_default();
        let trouble = match &result {
            Ok(reply) => match reply.status {
                401 | 403 => Some(format!("a call was denied (HTTP {})", reply.status)),
                429 => Some("a call was throttled (HTTP 429)".to_owned()),
                status if status >= 500 => Some(format!("a call failed (HTTP {status})")),
                _ => None,
            },
            Err(("not_allowed", why)) => Some(format!("a call was refused: {why}")),
            Err((_, why)) => Some(format!("a call brought nothing: {why}")),
        };
        if let Some(why) = trouble {
            ended.troubles.insert(question, clean(&why, 400));
        } else {
            ended.answered += 1;
            ended.troubles.remove(&question);
        }
        match result {
            Ok(reply) => answer(reply),
            Err((code, why)) => refusal(code, &why),
        }
    }

    /// What may be said of a scope, given how its calls ended. Only what says that all of it is known needs to be borne out.
    pub(crate) fn borne_out(&mut self, scope: &ScopeId, said: Coverage) -> Coverage {
        let ended = self.scopes.remove(scope).unwrap_or_default();
        if !said.is_whole() {
            return said;
        }
        let partial = |reason: String| Coverage::Partial { reason };
        match ended.troubles.into_values().next() {
            Some(why) => partial(format!("the plugin said {}, but {why}", said.as_str())),
            None if ended.answered == 0 => {
                partial(format!("the plugin said {} without having asked for anything", said.as_str()))
            }
            None => said,
        }
    }
}
