//! One's own second factors, their reset by those who manage the platform, and what a tenant asks for.

use access::{ops, own};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use crypto::totp;
use domain::Error;
use store::{FactorRow, NewPasskey};
use webauthn::UserVerification;
use wire::factor::{
    Factor, Factors, PasskeyCreate, PasskeyCreated, RecoveryCodes, SignInPolicy, TotpConfirm, TotpCreate, TotpCreated,
};
use wire::session::PasskeyChallenge;

use store::Versioned as _;
use wire::problem::Problem;

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::page::{self, Body, Path};
use crate::passkey::{self, Purpose};
use crate::problem::Answer;
use crate::state::ApiState;

fn factor(row: FactorRow) -> Factor {
    Factor {
        id: row.id,
        kind: row.kind.to_string(),
        name: row.name,
        created_at: row.created_at,
        confirmed_at: row.confirmed_at,
        last_used_at: row.last_used_at,
    }
}

/// The `otpauth` URI that authenticator apps read from a QR code.
fn otpauth_uri(email: &str, secret: &str) -> String {
    let encoded: String = email
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    let (digits, period) = (totp::DIGITS, totp::STEP_S);
    format!(
        "otpauth://totp/Cairn:{encoded}?secret={secret}&issuer=Cairn&algorithm=SHA1&digits={digits}&period={period}"
    )
}

/// One's second factors, and how many recovery codes are left.
#[utoipa::path(get, path = "/api/v1/me/factors", tag = "factors", responses((status = 200, description = "factors", body = Factors)))]
pub(crate) async fn factor_list(State(state): State<ApiState>, caller: Caller) -> Answer<Json<Factors>> {
    let (rows, recovery_codes_left) = state.store.factor_list(caller.own_permit::<own::FactorList>().await?).await?;
    Ok(Json(Factors { items: rows.into_iter().map(factor).collect(), recovery_codes_left }))
}

/// Begins to enrol an authenticator app, which counts once it is confirmed.
#[utoipa::path(post, path = "/api/v1/me/factors/totp", tag = "factors", request_body = TotpCreate,
    responses((status = 201, description = "to be confirmed", body = TotpCreated)))]
pub(crate) async fn totp_create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<TotpCreate>,
) -> Answer<(StatusCode, Json<TotpCreated>)> {
    let permit = caller.own_permit::<own::TotpCreate>().await?;
    let (id, secret) = state.store.totp_create(permit, &body.name.parse()?).await?;
    let secret = totp::base32(secret.expose());
    let otpauth_uri = otpauth_uri(caller.session()?.user.email.as_str(), &secret);
    Ok((StatusCode::CREATED, Json(TotpCreated { id, secret, otpauth_uri })))
}

/// Confirms an authenticator app by the code that it shows. The first factor brings recovery codes, and ends one's other sessions.
#[utoipa::path(post, path = "/api/v1/me/factors/{factor}/confirm", tag = "factors", params(("factor" = String, Path, description = "the factor's id")),
    request_body = TotpConfirm, responses((status = 200, description = "it counts", body = RecoveryCodes)))]
pub(crate) async fn totp_confirm(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<TotpConfirm>,
) -> Answer<Json<RecoveryCodes>> {
    let permit = caller.own_permit::<own::TotpConfirm>().await?;
    let recovery_codes = state.store.totp_confirm(permit, page::id(&id, "factor")?, &body.code).await?;
    Ok(Json(RecoveryCodes { recovery_codes }))
}

/// A challenge for a new passkey.
#[utoipa::path(post, path = "/api/v1/me/factors/passkey-challenge", tag = "factors",
    responses((status = 200, description = "a challenge", body = PasskeyChallenge)))]
pub(crate) async fn passkey_begin(State(state): State<ApiState>, caller: Caller) -> Answer<Json<PasskeyChallenge>> {
    let permit = caller.own_permit::<own::PasskeyBegin>().await?;
    let known = state.store.passkey_ids(permit.user()).await?;
    let options = passkey::creation_options(passkey::party(&state)?, &caller.session()?.user, &known);
    Ok(Json(passkey::ask(&state, &Purpose::Register(permit.session().to_string()), options)))
}

/// Adds a passkey. The first factor brings recovery codes, and ends one's other sessions.
#[utoipa::path(post, path = "/api/v1/me/factors/passkey", tag = "factors", request_body = PasskeyCreate,
    responses((status = 201, description = "it counts", body = PasskeyCreated)))]
pub(crate) async fn passkey_create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<PasskeyCreate>,
) -> Answer<(StatusCode, Json<PasskeyCreated>)> {
    let permit = caller.own_permit::<own::PasskeyCreate>().await?;
    let name = body.name.parse()?;
    let challenge = passkey::challenge(&state, &Purpose::Register(permit.session().to_string()), &body.state)?;
    let response = &body.credential.response;
    let registered = webauthn::register(
        passkey::party(&state)?,
        &challenge.bytes,
        UserVerification::Any,
        &passkey::bytes("clientDataJSON", &response.client_data_json)?,
        &passkey::bytes("attestationObject", &response.attestation_object)?,
    )
    .map_err(|refused| Error::invalid("credential", format!("the passkey is refused: {refused}")))?;
    if passkey::bytes("id", &body.credential.id)? != registered.credential_id {
        return Err(Error::invalid("credential", "the passkey is refused: its two ids differ").into());
    }
    let new = NewPasskey { name, registered, challenge: challenge.id, expires_at: challenge.expires_at };
    let (row, recovery_codes) = state.store.passkey_create(permit, &new).await?;
    Ok((StatusCode::CREATED, Json(PasskeyCreated { factor: factor(row), recovery_codes })))
}

/// Removes one of one's factors. The last one stays where one is required.
#[utoipa::path(delete, path = "/api/v1/me/factors/{factor}", tag = "factors", params(("factor" = String, Path, description = "the factor's id")),
    responses((status = 204, description = "removed")))]
pub(crate) async fn factor_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let permit = caller.own_permit::<own::FactorDelete>().await?;
    state.store.factor_delete(permit, page::id(&id, "factor")?, state.settings.second_factor_required).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes ten new recovery codes; the ones so far are void.
#[utoipa::path(post, path = "/api/v1/me/recovery-codes", tag = "factors",
    responses((status = 201, description = "made", body = RecoveryCodes)))]
pub(crate) async fn recovery_codes_create(
    State(state): State<ApiState>,
    caller: Caller,
) -> Answer<(StatusCode, Json<RecoveryCodes>)> {
    let permit = caller.own_permit::<own::RecoveryCodesCreate>().await?;
    let recovery_codes = state.store.recovery_codes_create(permit).await?;
    Ok((StatusCode::CREATED, Json(RecoveryCodes { recovery_codes })))
}

/// Takes every second factor from a user who lost them, and ends their sessions.
#[utoipa::path(delete, path = "/api/v1/users/{user}/factors", tag = "users", params(("user" = String, Path, description = "the user's id")),
    responses((status = 204, description = "taken")))]
pub(crate) async fn user_factors_reset(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let permit = caller.platform_permit::<ops::UserFactorsReset>().await?;
    state.store.write_platform(permit).await?.user_factors_reset(page::id(&id, "user")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the tenant asks of the sessions in which its members come.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/sign-in-policy", tag = "tenants", params(("tenant" = String, Path, description = "id or slug")),
    responses((status = 200, description = "the policy", body = SignInPolicy, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn sign_in_policy_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Answer<Tagged<SignInPolicy>> {
    let permit = caller.permit::<ops::SignInPolicyShow>(&tenant).await?;
    let second_factor_required = state.store.read(permit).await?.sign_in_policy_show().await?;
    Ok(Tagged(SignInPolicy { second_factor_required }, second_factor_required.version()))
}

/// Closes the tenant to sessions without a second factor, or opens it. Whoever closes it needs to have shown one.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/sign-in-policy", tag = "tenants", params(("tenant" = String, Path, description = "id or slug"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now")),
    request_body = SignInPolicy, responses((status = 200, description = "changed", body = SignInPolicy), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn sign_in_policy_put(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path(tenant): Path<String>,
    Body(body): Body<SignInPolicy>,
) -> Answer<Json<SignInPolicy>> {
    let permit = caller.permit::<ops::SignInPolicyPut>(&tenant).await?;
    if body.second_factor_required && !caller.session()?.second_factor {
        return Err(Error::conflict("you would lock yourself out: add a second factor of your own first").into());
    }
    state.store.write(permit).await?.only_if(condition).sign_in_policy_put(body.second_factor_required).await?;
    Ok(Json(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_is_as_authenticator_apps_read_it() {
        assert_eq!(
            otpauth_uri("ann+x@example.org", "MZXW6YTB"),
            "otpauth://totp/Cairn:ann%2Bx@example.org?secret=MZXW6YTB&issuer=Cairn&algorithm=SHA1&digits=6&period=30"
        );
    }
}
