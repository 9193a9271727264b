//! Signing in on another device (in the shape of RFC 8628): the device asks and polls, a person approves on a page of this server.
//!
//! The console has a page for it. Where there is no console, the page is plain HTML without any script or style, so that the content security policy of every other answer holds here too. There is
//! no cookie: the session that approves was made on the page, by the same sign-in as any other, and goes from the first form to the second
//! inside it.
//!
//! Invariants:
//! - a form is taken only from a page of this server;
//! - everything that somebody else chose is escaped;
//! - a person sees what asks, from where and since when before approving, and types the code: there is no link that holds one;
//! - whether a code exists is told only to who has signed in, and only a few times.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use access::{OwnOperation, OwnPermit, own};
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Form, Json, Router};
use crypto::device;
use domain::{DeviceLoginId, Error, Timestamp};
use serde::Deserialize;
use store::{DEVICE_INTERVAL_MS, DEVICE_LOGIN_MS, DeviceLoginRow, DevicePoll, NewDeviceLogin};
use wire::cli_session::{
    CliSessionCreated, DeviceCodeCreate, DeviceCodeCreated, DeviceLogin, DeviceShow, DeviceTokenCreate,
};
use wire::session::{SecondStep, SessionCreate, SessionCreated};

use crate::caller::{Caller, Use};
use crate::cli_session;
use crate::page::{self, Body, Path};
use crate::problem::{self, Answer, Failure};
use crate::second_step;
use crate::session::{self, SignedIn, Visitor};
use crate::state::ApiState;

const PAGE: &str = "/device";
/// How many wrong codes somebody may type in how long.
const GUESSES: u32 = 5;
const GUESSES_MS: i64 = 600_000;
/// Whose guesses are remembered at most.
const GUESSERS: usize = 10_000;

/// Wrong codes, by who typed them.
#[derive(Default)]
pub(crate) struct Guesses(Mutex<HashMap<String, (u32, Timestamp)>>);

impl Guesses {
    fn with<T>(&self, now: Timestamp, work: impl FnOnce(&mut HashMap<String, (u32, Timestamp)>) -> T) -> T {
        let mut guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.retain(|_, (_, since)| now.millis_since(*since) < GUESSES_MS);
        work(&mut guesses)
    }

    fn are_used_up(&self, who: &str, now: Timestamp) -> bool {
        self.with(now, |guesses| {
            guesses.len() >= GUESSERS || guesses.get(who).is_some_and(|(made, _)| *made >= GUESSES)
        })
    }

    fn note(&self, who: &str, now: Timestamp) {
        self.with(now, |guesses| guesses.entry(who.to_owned()).or_insert((0, now)).0 += 1);
    }
}

fn seconds(millis: i64) -> u32 {
    u32::try_from(millis / 1_000).unwrap_or(u32::MAX)
}

/// Begins a sign-in that somebody approves in a browser.
#[utoipa::path(post, path = "/api/v1/device-codes", tag = "sessions", security(()), request_body = DeviceCodeCreate,
    responses((status = 201, description = "waits", body = DeviceCodeCreated)))]
pub(crate) async fn device_code_create(
    State(state): State<ApiState>,
    visitor: Visitor,
    Body(body): Body<DeviceCodeCreate>,
) -> Answer<(StatusCode, Json<DeviceCodeCreated>)> {
    let rng = &**state.store.rng();
    let (device_code, user_code) = (device::device_code(rng), device::user_code(rng));
    let hashes = device::device_code_hash(&device_code).zip(device::user_code_hash(&user_code));
    let (device_hash, user_hash) = hashes.ok_or_else(|| Error::internal("a code of ours is none"))?;
    let new = NewDeviceLogin { device_hash, user_hash, client: cli_session::client(&body.client)? };
    state.store.device_login_create(visitor.ip, &new).await?;
    let created = DeviceCodeCreated {
        device_code: device_code.to_string(),
        user_code,
        verification_uri: PAGE.to_owned(),
        expires_in: seconds(DEVICE_LOGIN_MS),
        interval: seconds(DEVICE_INTERVAL_MS),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Fetches the session that somebody approved, once. Until then, 400 with one of RFC 8628's codes.
#[utoipa::path(post, path = "/api/v1/device-tokens", tag = "sessions", security(()), request_body = DeviceTokenCreate,
    responses((status = 201, description = "signed in", body = CliSessionCreated)))]
pub(crate) async fn device_token_create(
    State(state): State<ApiState>,
    visitor: Visitor,
    Body(body): Body<DeviceTokenCreate>,
) -> Response {
    let wait = |code: &str, message: &str| problem::answer(StatusCode::BAD_REQUEST, code, message.to_owned(), None);
    let expired = || wait("expired_token", "the code is no longer good: begin again");
    let Some(device_hash) = device::device_code_hash(&body.device_code) else { return expired() };
    let mut token = None;
    let polled = state
        .store
        .device_login_poll(device_hash, visitor.request, visitor.ip, |client| {
            let (made, new) = cli_session::new_token(&state, client);
            token = Some(made);
            new
        })
        .await;
    match (polled, token) {
        (Ok(DevicePoll::Ready(session)), Some(token)) => {
            (StatusCode::CREATED, Json(cli_session::created(&state, &token, &session))).into_response()
        }
        (Ok(DevicePoll::Pending), _) => wait("authorization_pending", "nobody approved it yet: ask again"),
        (Ok(DevicePoll::SlowDown), _) => wait("slow_down", "ask less often: wait 5 seconds longer from now on"),
        (Ok(DevicePoll::Denied), _) => wait("access_denied", "the sign-in was denied"),
        (Ok(DevicePoll::Expired | DevicePoll::Ready(_)), _) => expired(),
        (Err(error), _) => Failure(error).into_response(),
    }
}

/// For whoever has a session of their own in a browser. A stolen one of the command line would renew itself for ever.
async fn permit<O: OwnOperation>(state: &ApiState, caller: &Caller) -> Answer<OwnPermit<O>> {
    let permit = caller.own_permit::<O>().await?;
    caller.may_work()?;
    if caller.is_cli() {
        state.store.record_denial(caller.ctx(), None, O::NAME).await?;
        return Err(Error::Forbidden { message: "sign in on a page of the server to approve".to_owned() }.into());
    }
    Ok(permit)
}

/// Looks for the sign-in that waits under a code, which a person reads on the device. Wrong codes are counted: 429 after a few.
#[utoipa::path(post, path = "/api/v1/me/device-logins", tag = "sessions", request_body = DeviceShow,
    responses((status = 200, description = "what asks, and from where", body = DeviceLogin)))]
pub(crate) async fn device_show(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<DeviceShow>,
) -> Answer<Json<DeviceLogin>> {
    let permit = permit::<own::DeviceShow>(&state, &caller).await?;
    let (who, now) = (permit.user().to_string(), state.store.clock().now());
    if state.guesses.are_used_up(&who, now) {
        return Err(Error::Throttled { wait_s: u64::try_from(GUESSES_MS / 1_000).unwrap_or_default() }.into());
    }
    let found = match device::user_code_hash(&body.user_code) {
        Some(hash) => state.store.device_show(permit, hash).await?,
        None => None,
    };
    let Some(waiting) = found else {
        state.guesses.note(&who, now);
        return Err(Error::NotFound { what: "sign-in" }.into());
    };
    let DeviceLoginRow { id, client, ip, created_at } = waiting;
    Ok(Json(DeviceLogin { id: id.to_string(), client, ip, created_at }))
}

/// Approves it: the device gets a session of the command line, as this session's user.
#[utoipa::path(post, path = "/api/v1/me/device-logins/{device_login}/approve", tag = "sessions",
    params(("device_login" = String, Path, description = "its id")), responses((status = 204, description = "approved")))]
pub(crate) async fn device_approve(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let permit = permit::<own::DeviceApprove>(&state, &caller).await?;
    state.store.device_approve(permit, page::id(&id, "sign-in")?, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Denies it: the device gets nothing.
#[utoipa::path(post, path = "/api/v1/me/device-logins/{device_login}/deny", tag = "sessions",
    params(("device_login" = String, Path, description = "its id")), responses((status = 204, description = "denied")))]
pub(crate) async fn device_deny(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let permit = permit::<own::DeviceDeny>(&state, &caller).await?;
    state.store.device_deny(permit, page::id(&id, "sign-in")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The pages, which are no part of the API.
pub(crate) fn pages(router: Router<ApiState>) -> Router<ApiState> {
    router.route(PAGE, get(page_show).post(page_submit))
}

/// Text as it stands inside an element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A page around `body`, which is HTML already.
fn html(status: StatusCode, body: &str) -> Response {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Cairn: sign in on a device</title>\n</head>\n\
         <body>\n<main>\n<h1>Sign in on a device</h1>\n{body}</main>\n</body>\n</html>\n"
    );
    let mut response = (status, page).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    // With `no-referrer` a browser sends a form without saying where it comes from, which is what is checked.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// The first form, with what went wrong before.
fn ask(status: StatusCode, wrong: Option<&str>, user_code: &str) -> Response {
    let mut body = String::new();
    if let Some(wrong) = wrong {
        let _ = writeln!(body, "<p role=\"alert\"><strong>{}</strong></p>", escaped(wrong));
    }
    let _ = write!(
        body,
        "<p>Type the code that the command line shows, and sign in. Nothing is approved yet.</p>\n\
         <form method=\"post\" action=\"{PAGE}\">\n\
         <p><label>Code <input name=\"user_code\" value=\"{}\" required autocomplete=\"off\" autocapitalize=\"characters\" spellcheck=\"false\" \
         maxlength=\"32\"></label></p>\n\
         <p><label>Login name <input name=\"email\" type=\"email\" required autocomplete=\"username\"></label></p>\n\
         <p><label>Password <input name=\"password\" type=\"password\" required autocomplete=\"current-password\"></label></p>\n\
         <p><label>Code of your second factor, if you have one <input name=\"code\" autocomplete=\"one-time-code\" maxlength=\"32\"></label></p>\n\
         <p><button type=\"submit\">Continue</button></p>\n</form>\n",
        escaped(user_code)
    );
    html(status, &body)
}

/// The second form: what asks, and the two answers.
fn confirm(signed_in: &SessionCreated, waiting: &DeviceLoginRow) -> Response {
    let body = format!(
        "<p>Signed in as <strong>{}</strong>.</p>\n\
         <p>This command line asks to act as you:</p>\n\
         <dl>\n<dt>It calls itself</dt><dd>{}</dd>\n<dt>Address</dt><dd>{}</dd>\n<dt>Asked at</dt><dd>{}</dd>\n</dl>\n\
         <p>Approve only if you started this yourself, a moment ago. Whoever sent you a code to type here would get your access.</p>\n\
         <form method=\"post\" action=\"{PAGE}\">\n\
         <input type=\"hidden\" name=\"session\" value=\"{}\">\n<input type=\"hidden\" name=\"login\" value=\"{}\">\n\
         <p><button type=\"submit\" name=\"decision\" value=\"approve\">Approve</button>\n\
         <button type=\"submit\" name=\"decision\" value=\"deny\">Deny</button></p>\n</form>\n",
        escaped(signed_in.me.email.as_deref().unwrap_or(&signed_in.me.name)),
        escaped(&waiting.client),
        escaped(waiting.ip.as_deref().unwrap_or("unknown")),
        waiting.created_at,
        escaped(&signed_in.token),
        waiting.id,
    );
    html(StatusCode::OK, &body)
}

fn told(status: StatusCode, text: &str) -> Response {
    html(status, &format!("<p>{}</p>\n<p><a href=\"{PAGE}\">Another code</a></p>\n", escaped(text)))
}

/// The form for a code: the console's, or this one where there is no console.
async fn page_show(State(state): State<ApiState>, headers: HeaderMap) -> Response {
    state.settings.console.document(&headers).unwrap_or_else(|| ask(StatusCode::OK, None, ""))
}

/// Whether a browser sent the form from a page of this server: by what browsers say since 2020, else by where it comes from. What says
/// neither is no browser with a form of ours.
fn is_from_here(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(drop),
            (Some(_), Some(_)) => Err(()),
        }
    };
    let (Ok(site), Ok(origin), Ok(host)) = (text("sec-fetch-site"), text("origin"), text("host")) else { return false };
    let host = uri.authority().map(axum::http::uri::Authority::as_str).or(host);
    let same_site = site.map(|site| site == "same-origin");
    let same_origin = origin.map(|origin| host.is_some_and(|host| origin == format!("https://{host}")));
    match (same_site, same_origin) {
        (None, None) => false,
        (site, origin) => site.unwrap_or(true) && origin.unwrap_or(true),
    }
}

/// The fields of both forms.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    user_code: String,
    email: String,
    password: String,
    code: String,
    session: String,
    login: String,
    decision: String,
}

/// Takes either form.
async fn page_submit(State(state): State<ApiState>, visitor: Visitor, request: Request) -> Response {
    if !is_from_here(request.headers(), request.uri()) {
        return told(
            StatusCode::FORBIDDEN,
            "This form did not come from this page. Open the page and type the code there.",
        );
    }
    let fields = match Form::<Fields>::from_request(request, &()).await {
        Ok(Form(fields)) => fields,
        Err(rejection) => {
            let large = matches!(
                &rejection,
                axum::extract::rejection::FormRejection::BytesRejection(BytesRejection::FailedToBufferBody(_))
            );
            let status = if large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            return told(status, "The form could not be read. Open the page again.");
        }
    };
    let done = if fields.decision.is_empty() {
        signed_in(&state, &visitor, fields).await
    } else {
        decided(&state, &visitor, fields).await
    };
    done.unwrap_or_else(|Failure(error)| {
        let text = error.to_string();
        told(Failure(error).into_response().status(), &format!("It did not work: {text}."))
    })
}

/// The first form: signs in and looks the code up.
async fn signed_in(state: &ApiState, visitor: &Visitor, fields: Fields) -> Result<Response, Failure> {
    let Fields { user_code, email, password, code, .. } = fields;
    let again = |status, wrong: &str| Ok(ask(status, Some(wrong), &user_code));
    let (who, now) = (email.to_ascii_lowercase(), state.store.clock().now());
    if state.guesses.are_used_up(&who, now) {
        return again(StatusCode::TOO_MANY_REQUESTS, "Too many wrong codes. Wait ten minutes.");
    }
    // The sign-in of everybody else, with all that it checks.
    let mut signed_in = session::sign_in(state, visitor, SessionCreate { email, password, cookie: false }).await;
    if let Ok(SignedIn::SecondStep(needed)) = signed_in {
        if code.is_empty() {
            return again(StatusCode::UNAUTHORIZED, "Your account has a second factor: type its code too.");
        }
        let is_totp = code.bytes().all(|b| b.is_ascii_digit());
        let (code, recovery_code) = if is_totp { (Some(code), None) } else { (None, Some(code)) };
        let step = SecondStep { token: needed.token, code, recovery_code, passkey: None, cookie: false };
        signed_in = second_step::confirm(state, visitor, step).await.map(SignedIn::Session);
    }
    let signed_in = match signed_in {
        Ok(SignedIn::Session(signed_in)) => signed_in,
        Ok(SignedIn::SecondStep(_)) | Err(Failure(Error::Unauthenticated | Error::Invalid { .. })) => {
            return again(StatusCode::UNAUTHORIZED, "The login name, the password or the code is wrong.");
        }
        Err(failure) => return Err(failure),
    };
    let caller = Caller::of(state, &signed_in.token, visitor.request, visitor.ip, Use::Counts).await?;
    let waiting = match (caller.may_work(), device::user_code_hash(&user_code)) {
        (Err(error), _) => Err(error),
        (Ok(()), Some(hash)) => state.store.device_show(caller.own_permit().await?, hash).await,
        (Ok(()), None) => Ok(None),
    };
    match waiting {
        Ok(Some(waiting)) => Ok(confirm(&signed_in, &waiting)),
        other => {
            state.store.session_revoke(caller.ctx()).await?;
            other?;
            state.guesses.note(&who, now);
            again(StatusCode::NOT_FOUND, "No command line waits with this code. Codes are good for ten minutes.")
        }
    }
}

/// The second form: approves or denies, as the session that the first one made.
async fn decided(state: &ApiState, visitor: &Visitor, fields: Fields) -> Result<Response, Failure> {
    let approve = match fields.decision.as_str() {
        "approve" => true,
        "deny" => false,
        _ => return Ok(told(StatusCode::BAD_REQUEST, "The form could not be read. Open the page again.")),
    };
    let caller = match Caller::of(state, &fields.session, visitor.request, visitor.ip, Use::Counts).await {
        Err(Failure(Error::Unauthenticated)) => {
            return Ok(ask(StatusCode::UNAUTHORIZED, Some("Your sign-in on this page has ended."), ""));
        }
        other => other?,
    };
    let gone =
        || Ok(told(StatusCode::NOT_FOUND, "This sign-in does not wait any more. Begin again on the command line."));
    let Ok(id) = fields.login.parse::<DeviceLoginId>() else { return gone() };
    let done = if approve {
        state.store.device_approve(permit(state, &caller).await?, id, true).await
    } else {
        state.store.device_deny(permit(state, &caller).await?, id).await
    };
    match done {
        Err(Error::NotFound { .. }) => gone(),
        Err(error) => Err(error.into()),
        // The session that approved lives until the device has fetched its own.
        Ok(()) if approve => {
            Ok(told(StatusCode::OK, "Approved. Go back to the command line; this page can be closed."))
        }
        Ok(()) => {
            state.store.session_revoke(caller.ctx()).await?;
            Ok(told(StatusCode::OK, "Denied. The command line gets nothing."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_46_text_of_others_stays_text() {
        assert_eq!(escaped(r#"<b a="1" c='2'>&amp;"#), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;");
    }

    #[test]
    fn attack_43_a_form_of_another_page_is_not_from_here() {
        let from_here = |headers: &[(&'static str, &'static str)], uri: &'static str| {
            let map = headers
                .iter()
                .map(|(name, value)| (axum::http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_from_here(&map.collect::<HeaderMap>(), &Uri::from_static(uri))
        };
        let host = ("host", "cairn.example:8443");
        for good in [
            &[host, ("sec-fetch-site", "same-origin")][..],
            &[host, ("origin", "https://cairn.example:8443")],
            &[host, ("origin", "https://cairn.example:8443"), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(from_here(good, PAGE), "{good:?}");
        }
        // HTTP/2 names the host in the target.
        assert!(from_here(&[("origin", "https://cairn.example")], "https://cairn.example/device"));
        for bad in [
            &[host][..],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("sec-fetch-site", "none")],
            &[host, ("origin", "null")],
            &[host, ("origin", "https://evil.example")],
            &[host, ("origin", "http://cairn.example:8443")],
            &[host, ("origin", "https://cairn.example:8443.evil.example")],
            &[host, ("origin", "https://cairn.example")],
            &[host, ("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
            &[host, ("origin", "https://cairn.example:8443"), ("sec-fetch-site", "cross-site")],
            &[("origin", "https://")],
        ] {
            assert!(!from_here(bad, PAGE), "{bad:?}");
        }
    }

    #[test]
    fn a_few_wrong_codes_are_enough() {
        let (guesses, now) = (Guesses::default(), Timestamp::from_millis(0));
        for _ in 0..GUESSES {
            assert!(!guesses.are_used_up("ann", now));
            guesses.note("ann", now);
        }
        assert!(guesses.are_used_up("ann", now) && !guesses.are_used_up("bob", now));
        assert!(!guesses.are_used_up("ann", now.plus_millis(GUESSES_MS)));
    }
}
