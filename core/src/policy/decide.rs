//! What the policies that have a say come to: "an explicit deny in any policy overrides any allow", identities within their
//! boundary and session, resources for whom they name. The rules are those of "Policy evaluation logic" in IAM's guide.

use super::{Policy, Request, Said};

/// All policies that have a say about a request.
#[derive(Clone, Debug, Default)]
pub struct Policies<'a> {
    /// Of the caller and its groups.
    pub identity: Vec<&'a Policy>,
    /// The permissions boundary; an empty one lets nothing through.
    pub boundary: Option<Vec<&'a Policy>>,
    /// Of the session; as above.
    pub session: Option<Vec<&'a Policy>>,
    /// Of the resource.
    pub resource: Option<&'a Policy>,
    /// The resource is of the caller's account.
    pub is_own: bool,
}

/// Where a refusal comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Policies of the caller and its groups.
    Identity,
    /// The permissions boundary.
    Boundary,
    /// The session.
    Session,
    /// The resource.
    Resource,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A statement says so, rather than none allowing it.
    pub is_explicit: bool,
    /// Whose.
    pub by: Source,
}

/// Whether a request is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is.
    Allowed,
    /// It is not.
    Refused(Refusal),
}

impl Refusal {
    /// AWS's text for the user.
    pub fn text(self, request: &Request<'_>) -> String {
        let caller = request.callers.first().copied().unwrap_or_default();
        let Request {
            action, resource, ..
        } = request;
        let begin = format!(
            "User: {caller} is not authorized to perform: {action} on resource: {resource}"
        );
        let by = match self.by {
            Source::Identity => "identity-based policy",
            Source::Boundary => "permissions boundary",
            Source::Session => "session policy",
            Source::Resource => "resource-based policy",
        };
        if self.is_explicit {
            let article = match self.by {
                Source::Identity => "an",
                Source::Boundary | Source::Session | Source::Resource => "a",
            };
            format!("{begin} with an explicit deny in {article} {by}")
        } else {
            format!("{begin} because no {by} allows the {action} action")
        }
    }
}

/// What several policies of one kind say together.
fn together(policies: &[&Policy], request: &Request<'_>) -> Said {
    let said = policies.iter().map(|policy| policy.said(request));
    said.max().unwrap_or(Said::Nothing)
}

impl Policies<'_> {
    /// The decision.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let refused = |is_explicit, by| Decision::Refused(Refusal { is_explicit, by });
        let identity = together(&self.identity, request);
        let limit = |policies: &Option<Vec<&Policy>>| {
            let said = policies.as_ref().map(|all| together(all, request));
            said.unwrap_or(Said::Allow)
        };
        let (boundary, session) = (limit(&self.boundary), limit(&self.session));
        let resource = self
            .resource
            .map_or(Said::Nothing, |policy| policy.said(request));
        for (said, by) in [
            (identity, Source::Identity),
            (resource, Source::Resource),
            (boundary, Source::Boundary),
            (session, Source::Session),
        ] {
            if said == Said::Deny {
                return refused(true, by);
            }
        }
        // "If the resource-based policy allows the principal directly, a single permission is enough"; an implicit deny in a
        // boundary or a session policy does not limit what is given to the user or the session itself.
        if self.is_own && resource == Said::Allow {
            return Decision::Allowed;
        }
        let is_given_to_role = self.is_own && resource == Said::ToRole;
        if !self.is_own && resource == Said::Nothing {
            return refused(false, Source::Resource);
        }
        if identity == Said::Nothing && !is_given_to_role {
            return refused(false, Source::Identity);
        }
        if boundary == Said::Nothing {
            return refused(false, Source::Boundary);
        }
        if session == Said::Nothing {
            return refused(false, Source::Session);
        }
        Decision::Allowed
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
