//! One's own second factors, and the proof that they give: the second step of a login, and the fresh proof that some commands need.
//!
//! Invariants: a code comes from a prompt or a file; a command is sent again once at most.

use std::path::PathBuf;

use clap::Subcommand;
use domain::Secret;
use wire::factor::{Factor, TotpConfirm, TotpCreate};
use wire::session::{SecondStep, StepUp};

use crate::api::{Api, Context};
use crate::doc::Doc;
use crate::failure::{Failure, Result};
use crate::output::tell;
use crate::prompt;
use crate::table::Table;

/// Where passwords and codes come from, when they are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proofs {
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) code_file: Option<PathBuf>,
}

impl Proofs {
    /// The password of the signed-in user.
    fn password(&self) -> Result<Secret> {
        match &self.password_file {
            Some(path) => prompt::secret_file(path),
            None if prompt::is_interactive() => prompt::secret("Your password, once more:"),
            None => Err(Failure::new("this needs your password, and there is no terminal to ask for it")
                .hint("--password-file FILE, - for the standard input")),
        }
    }

    /// A code of the second factor.
    fn code(&self) -> Result<String> {
        let code = match &self.code_file {
            Some(path) => prompt::secret_file(path)?,
            None if prompt::is_interactive() => prompt::secret("Code of your authenticator app, or a recovery code:")?,
            None => {
                return Err(Failure::new(
                    "this needs the code of your second factor, and there is no terminal to ask for it",
                )
                .hint("--code-file FILE, - for the standard input"));
            }
        };
        code.expose_str().map(|code| code.trim().to_owned()).ok_or_else(|| Failure::new("a code is letters and digits"))
    }

    /// The second step of a login.
    pub(crate) fn second_step(&self, token: String, methods: &[String]) -> Result<SecondStep> {
        if !methods.iter().any(|method| method == "totp" || method == "recovery-code") {
            return Err(Failure::new("your second factor is a passkey, which needs a browser")
                .hint("sign in there, or make recovery codes there and use one here"));
        }
        let (code, recovery_code) = by_kind(self.code()?);
        Ok(SecondStep { token, cookie: false, code, recovery_code, passkey: None })
    }

    /// A fresh proof of who is signed in.
    pub(crate) fn step_up(&self, has_second_factor: bool) -> Result<StepUp> {
        if !has_second_factor {
            let password = self.password()?;
            let password = password.expose_str().ok_or_else(|| Failure::new("a password is text in UTF-8"))?;
            return Ok(StepUp { password: Some(password.to_owned()), ..StepUp::default() });
        }
        let (code, recovery_code) = by_kind(self.code()?);
        Ok(StepUp { code, recovery_code, ..StepUp::default() })
    }
}

/// Six digits are of an app, anything else is a recovery code.
fn by_kind(code: String) -> (Option<String>, Option<String>) {
    let is_app = code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit());
    if is_app { (Some(code), None) } else { (None, Some(code)) }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List your second factors
    List,
    /// Add an authenticator app; in a terminal it is confirmed at once
    AddTotp {
        /// What to call it
        #[arg(long, default_value = "authenticator app")]
        name: String,
    },
    /// Confirm an authenticator app by the code that it shows
    Confirm {
        /// The factor's id
        factor: String,
    },
    /// Remove a second factor
    Remove {
        /// The factor's id
        factor: String,
    },
    /// Make ten new recovery codes; the ones so far are void
    RecoveryCodes,
}

impl Table for Factor {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("KIND", "kind"),
        ("NAME", "name"),
        ("CONFIRMED", "confirmed_at"),
        ("LAST USED", "last_used_at"),
        ("ID", "id"),
    ];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.platform()?;
        match self {
            Self::List => {
                let factors = api.get(&["me", "factors"]).await?;
                api.out.list::<Factor>(factors.items("items").to_vec())?;
                if let Some(Doc::Number(left)) = factors.field("recovery_codes_left") {
                    api.out.say(&format!("recovery codes left: {left}"));
                }
                Ok(())
            }
            Self::AddTotp { name } => {
                let made = api.post(&["me", "factors", "totp"], &TotpCreate { name }).await?;
                api.out.one(&made)?;
                let id = made.text("id").to_owned();
                if prompt::is_interactive() {
                    tell("Put the secret into the app, then type the code that it shows.");
                    return confirm(&api, &cx.proofs(), &id).await;
                }
                api.out.say(&format!("it counts once it is confirmed: cairn factors confirm {id} --code-file FILE"));
                Ok(())
            }
            Self::Confirm { factor } => confirm(&api, &cx.proofs(), &factor).await,
            Self::Remove { factor } => {
                api.delete(&["me", "factors", &factor]).await?;
                api.out.say(&format!("{factor} is removed"));
                Ok(())
            }
            Self::RecoveryCodes => show_codes(&api, &api.act(&["me", "recovery-codes"]).await?),
        }
    }
}

async fn confirm(api: &Api, proofs: &Proofs, id: &str) -> Result {
    let code = proofs.code()?;
    let confirmed = api.post(&["me", "factors", id, "confirm"], &TotpConfirm { code }).await?;
    api.out.say("the app is confirmed: from now on, signing in takes its code");
    if confirmed.items("recovery_codes").is_empty() { Ok(()) } else { show_codes(api, &confirmed) }
}

fn show_codes(api: &Api, codes: &Doc) -> Result {
    api.out.one(codes)?;
    api.out.say("each code is good for one sign-in without the app; they are shown this once");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_digits_are_of_an_app_and_all_else_is_a_recovery_code() {
        for (code, is_app) in
            [("123456", true), ("1234567", false), ("12345a", false), ("0000-1111-2222-3333", false), ("", false)]
        {
            let (app, recovery) = by_kind(code.to_owned());
            assert_eq!((app.is_some(), recovery.is_some()), (is_app, !is_app), "{code}");
        }
    }

    #[test]
    fn a_passkey_alone_is_no_use_at_a_terminal() {
        let failure = Proofs::default().second_step(String::new(), &["passkey".to_owned()]).err().unwrap();
        assert!(failure.message.contains("browser"));
    }
}
