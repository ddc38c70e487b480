//! What a caller may do. The account itself may do everything in it; users and sessions of roles what their policies allow.

use std::sync::Arc;

use hearth_core::iam::IamKey;
use hearth_core::policy::{Decision, Policies, Policy, Request};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::directory::{Directory, Record};
use crate::caller::{Caller, Identity};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    /// `lambda:InvokeFunction`.
    pub(crate) action: &'a str,
    /// ARN, or `*`.
    pub(crate) resource: &'a str,
    /// Of the resource, if it has one.
    pub(crate) policy: Option<&'a Policy>,
    /// The resource is of the caller's account.
    pub(crate) is_own: bool,
    /// Condition keys of the request alone; names in lower case.
    pub(crate) context: &'a [(&'a str, &'a str)],
    /// Now.
    pub(crate) unix_ms: u64,
}

/// Whether a caller may do what it wants; else AWS's text.
pub(crate) fn check(directory: &Directory, caller: &Caller, wish: &Wish<'_>) -> Result<(), String> {
    if caller.is_root() {
        return Ok(());
    }
    let facts = Facts::of(caller, wish.unix_ms);
    let mut context = facts.context(caller);
    context.extend_from_slice(wish.context);
    let (arn, role_arn) = (caller.arn(), caller.role_arn());
    let callers: Vec<&str> = std::iter::once(&*arn).chain(role_arn.as_deref()).collect();
    let request = Request {
        callers: &callers,
        action: wish.action,
        resource: wish.resource,
        context: &context,
    };
    let rights = Rights::of(directory, caller);
    let policies = Policies {
        identity: read(&rights.identity),
        boundary: rights.boundary.as_deref().map(read),
        session: rights.session(),
        resource: wish.policy,
        is_own: wish.is_own,
    };
    match policies.decide(&request) {
        Decision::Allowed => Ok(()),
        Decision::Refused(refusal) => Err(refusal.text(&request)),
    }
}

/// What a trust policy says of a caller: nothing if it does not let it in.
pub(crate) fn is_trusted(trust: &Policy, caller: &Caller, wish: &Wish<'_>) -> bool {
    let facts = Facts::of(caller, wish.unix_ms);
    let mut context = facts.context(caller);
    context.extend_from_slice(wish.context);
    let (arn, role_arn) = (caller.arn(), caller.role_arn());
    let callers: Vec<&str> = std::iter::once(&*arn).chain(role_arn.as_deref()).collect();
    trust.allows(&Request {
        callers: &callers,
        action: wish.action,
        resource: wish.resource,
        context: &context,
    })
}

fn read(records: &[Arc<Record>]) -> Vec<&Policy> {
    let all = records.iter().flat_map(|record| &record.policies);
    all.collect()
}

/// Records of all policies that have a say. A policy that is gone allows nothing.
struct Rights<'c> {
    identity: Vec<Arc<Record>>,
    boundary: Option<Vec<Arc<Record>>>,
    session: Option<(Option<&'c Policy>, Vec<Arc<Record>>)>,
}

impl<'c> Rights<'c> {
    fn of(directory: &Directory, caller: &'c Caller) -> Self {
        let account = &caller.account;
        let key = match &caller.identity {
            Identity::Root => None,
            Identity::User { name, .. } => Some(IamKey::User(name.clone())),
            Identity::Role { name, .. } => Some(IamKey::Role(name.clone())),
        };
        let identity = key.and_then(|key| directory.find(account, &key));
        let boundary = identity.as_ref().and_then(|record| {
            let arn = record.entity.rights()?.boundary.as_ref()?;
            Some(directory.policy(account, arn).into_iter().collect())
        });
        let session = match &caller.identity {
            Identity::Role {
                policies: Some(policies),
                ..
            } => {
                let arns = policies.arns.iter();
                let named = arns.filter_map(|arn| directory.policy(account, arn));
                Some((policies.inline.as_ref(), named.collect()))
            }
            Identity::Root | Identity::User { .. } | Identity::Role { policies: None, .. } => None,
        };
        let identity = identity.map(|record| directory.records_of(account, &record));
        Self {
            identity: identity.unwrap_or_default(),
            boundary,
            session,
        }
    }

    fn session(&self) -> Option<Vec<&Policy>> {
        let (inline, named) = self.session.as_ref()?;
        let mut all = read(named);
        all.extend(*inline);
        Some(all)
    }
}

/// Condition keys that every request has, as texts.
struct Facts {
    user_id: String,
    principal: String,
    time: String,
    epoch: String,
    source: Option<String>,
}

impl Facts {
    fn of(caller: &Caller, unix_ms: u64) -> Self {
        let seconds = unix_ms / 1_000;
        let time = i64::try_from(seconds).ok();
        let time = time.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        Self {
            user_id: caller.user_id(),
            principal: caller.role_arn().unwrap_or_else(|| caller.arn()),
            time: time
                .and_then(|time| time.format(&Rfc3339).ok())
                .unwrap_or_default(),
            epoch: seconds.to_string(),
            source: caller.source.map(|ip| ip.to_canonical().to_string()),
        }
    }

    fn context<'a>(&'a self, caller: &'a Caller) -> Vec<(&'a str, &'a str)> {
        let mut context = vec![
            ("aws:userid", self.user_id.as_str()),
            ("aws:principalarn", &self.principal),
            ("aws:principalaccount", caller.account.as_str()),
            ("aws:currenttime", &self.time),
            ("aws:epochtime", &self.epoch),
            ("aws:securetransport", "false"),
        ];
        let source = self.source.as_deref();
        context.extend(source.map(|ip| ("aws:sourceip", ip)));
        match &caller.identity {
            Identity::Root => context.push(("aws:principaltype", "Account")),
            Identity::User { name, .. } => {
                context.extend([
                    ("aws:principaltype", "User"),
                    ("aws:username", name.as_str()),
                ]);
            }
            Identity::Role { .. } => context.push(("aws:principaltype", "AssumedRole")),
        }
        context
    }
}
