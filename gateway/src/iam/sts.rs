//! STS: who the caller is, and temporary credentials.

use hearth_aws_api::Timestamp;
use hearth_aws_api::protocol::query::{QueryError, QueryErrorCode};
use hearth_aws_api::sts::{
    AssumeRoleRequest, AssumeRoleResponse, AssumedRoleUser, Credentials, GetCallerIdentityRequest,
    GetCallerIdentityResponse, GetSessionTokenRequest, GetSessionTokenResponse,
};
use hearth_core::iam::{IamKind, role_named};
use hearth_core::limits::{SESSION_DEFAULT_S, SESSION_MAX_S, SESSION_POLICY_MAX_CHARS};
use hearth_core::policy::Policy;
use hearth_node::credentials::{Issued, Session, Whose};

use super::authority::{self, Wish};
use super::errors::{query_error, unexpected};
use super::{Answer, Call, unsigned};
use crate::app::App;
use crate::caller::{Caller, Identity};

/// "The maximum for a session by role chaining is one hour", seconds.
const CHAINED_MAX_S: u32 = 3_600;
/// "Credentials that are created by using account credentials can range from 900 seconds up to a maximum of 3,600 seconds".
const ROOT_MAX_S: u32 = 3_600;

pub(super) fn caller_identity(call: &Call) -> Answer {
    let _: GetCallerIdentityRequest = call.input()?;
    let caller = &call.caller;
    call.output(&GetCallerIdentityResponse {
        user_id: Some(caller.user_id()),
        account: Some(caller.account.as_str().to_owned()),
        arn: Some(caller.arn()),
    })
}

fn validation(text: impl Into<String>) -> QueryError {
    QueryError::new(QueryErrorCode::ValidationError, text)
}

pub(super) fn assume_role(app: &App, call: &Call) -> Answer {
    let input: AssumeRoleRequest = call.input()?;
    let arn = input.role_arn.unwrap_or_default();
    let session = input.role_session_name.unwrap_or_default();
    let (account, key) = role_named(&arn).ok_or_else(|| validation(format!("{arn} is invalid")))?;
    let caller = &call.caller;
    let denied = || {
        let text = format!(
            "User: {} is not authorized to perform: sts:AssumeRole on resource: {arn}",
            caller.arn()
        );
        QueryError::new(QueryErrorCode::AccessDenied, text)
    };
    let directory = &app.iam.directory;
    // Whether a role exists is not told to who may not assume it.
    let role = directory.find(&account, &key).ok_or_else(denied)?;
    let trust = role.trust.as_ref().ok_or_else(denied)?;
    if role.entity.arn(&account) != arn {
        return Err(denied());
    }
    let mut context = vec![("sts:rolesessionname", session.as_str())];
    if let Some(id) = &input.external_id {
        context.push(("sts:externalid", id));
    }
    let wish = Wish {
        action: "sts:AssumeRole",
        resource: &arn,
        policy: Some(trust),
        is_own: account == caller.account,
        context: &context,
        unix_ms: app.unix_ms(),
    };
    let is_let = authority::is_trusted(trust, caller, &wish)
        && authority::check(directory, caller, &wish).is_ok();
    if !is_let {
        return Err(denied());
    }
    let IamKind::Role { max_session_s, .. } = role.entity.kind else {
        return Err(unexpected());
    };
    let lifetime_s = input.duration_seconds.map_or(SESSION_DEFAULT_S, unsigned);
    check_lifetime(caller, lifetime_s, max_session_s)?;
    let arns = input.policy_arns.into_iter().flatten();
    let whose = Whose::Role {
        name: role.entity.name.clone(),
        id: role.entity.id.clone(),
        session: session.clone(),
        policy: checked_policy(input.policy)?,
        arns: arns.filter_map(|policy| policy.arn).collect(),
    };
    let issued = issue(app, (account.to_string(), whose), lifetime_s)?;
    let name = &role.entity.name;
    call.output(&AssumeRoleResponse {
        credentials: Some(shown(issued)),
        assumed_role_user: Some(AssumedRoleUser {
            assumed_role_id: Some(format!("{}:{session}", role.entity.id)),
            arn: Some(format!(
                "arn:aws:sts::{}:assumed-role/{name}/{session}",
                account.as_str()
            )),
        }),
        ..AssumeRoleResponse::default()
    })
}

fn check_lifetime(caller: &Caller, lifetime_s: u32, role_s: u32) -> Result<(), QueryError> {
    let is_chained = matches!(caller.identity, Identity::Role { .. });
    if is_chained && lifetime_s > CHAINED_MAX_S {
        return Err(validation(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        ));
    }
    if lifetime_s > role_s.min(SESSION_MAX_S) {
        return Err(validation(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ));
    }
    Ok(())
}

fn checked_policy(policy: Option<String>) -> Result<Option<String>, QueryError> {
    if let Some(document) = &policy {
        if document.chars().count() > SESSION_POLICY_MAX_CHARS {
            return Err(QueryError::new(
                QueryErrorCode::PackedPolicyTooLarge,
                format!("The policy is larger than {SESSION_POLICY_MAX_CHARS} characters"),
            ));
        }
        Policy::of_identity(document).map_err(query_error)?;
    }
    Ok(policy)
}

fn issue(app: &App, whose: (String, Whose), lifetime_s: u32) -> Result<Issued, QueryError> {
    let expires_ms = app.unix_ms().saturating_add(u64::from(lifetime_s) * 1_000);
    let issued = Session::issue(whose, expires_ms, &app.iam.sessions, &app.seams.random);
    issued.ok_or_else(unexpected)
}

fn shown(issued: Issued) -> Credentials {
    Credentials {
        access_key_id: Some(issued.access_key_id),
        secret_access_key: Some(issued.secret),
        session_token: Some(issued.token),
        expiration: Timestamp::from_unix_ms(issued.expires_ms),
    }
}

/// Of a user or of the account: "you cannot call GetSessionToken with session credentials".
pub(super) fn session_token(app: &App, call: &Call) -> Answer {
    let input: GetSessionTokenRequest = call.input()?;
    let whose = match &call.caller.identity {
        Identity::Root => Whose::Root,
        Identity::User {
            name,
            id,
            is_session: false,
            ..
        } => Whose::User {
            name: name.clone(),
            id: id.clone(),
        },
        Identity::User { .. } | Identity::Role { .. } => {
            return Err(QueryError::new(
                QueryErrorCode::AccessDenied,
                "Cannot call GetSessionToken with session credentials",
            ));
        }
    };
    let asked_s = input.duration_seconds.map(unsigned);
    let lifetime_s = match whose {
        Whose::Root => asked_s.unwrap_or(ROOT_MAX_S).min(ROOT_MAX_S),
        Whose::User { .. } | Whose::Role { .. } => asked_s.unwrap_or(SESSION_MAX_S),
    };
    let account = call.caller.account.clone();
    let issued = issue(app, (account.to_string(), whose), lifetime_s)?;
    call.output(&GetSessionTokenResponse {
        credentials: Some(shown(issued)),
        ..GetSessionTokenResponse::default()
    })
}
