//! How events are tried: how often, for how long, and who is told of the end.

use serde::{Deserialize, Serialize};

use super::{LATEST, Stamp, invalid, not_found};
use crate::error::Result;
use crate::function::Function;
use crate::ids::UnixMs;
use crate::name::Qualifier;

/// The configuration of one version or alias.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventInvokeConfig {
    /// What is set.
    pub members: EventInvokeMembers,
    /// When it was last changed.
    pub last_modified: UnixMs,
}

/// What a request says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventInvokeMembers {
    /// Tries after the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Longest wait, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u32>,
    /// Who is told, when anything was said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destinations: Option<Destinations>,
}

/// ARNs of queues, topics, buses, buckets or functions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destinations {
    /// Told when the function has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<String>,
    /// Told when the event is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
}

impl Destinations {
    /// Both, as far as they are given.
    pub fn iter(&self) -> impl Iterator<Item = &String> {
        self.on_failure.iter().chain(&self.on_success)
    }
}

impl EventInvokeConfig {
    pub(super) fn metadata_bytes(&self) -> usize {
        let arns = self
            .members
            .destinations
            .iter()
            .flat_map(Destinations::iter);
        150 + arns.map(String::len).sum::<usize>()
    }
}

/// Whether results may be sent there: `None` of a kind that takes none, otherwise the function that is meant, if one is.
fn check_destination(arn: &str) -> Option<Option<&str>> {
    let parts: Vec<&str> = arn.splitn(7, ':').collect();
    match parts[..] {
        ["arn", _, "lambda", _, _, "function", function] => Some(function.split(':').next()),
        ["arn", _, "sqs" | "sns" | "events" | "s3", ..] => Some(None),
        _ => None,
    }
}

impl EventInvokeMembers {
    /// What AWS refuses whatever the function; `name` is the function's, `exists` says whether there is one of a name.
    pub fn check(&self, name: &str, exists: impl Fn(&str) -> bool) -> Result<()> {
        let Some(destinations) = &self.destinations else {
            return Ok(());
        };
        for arn in destinations.iter() {
            match check_destination(arn) {
                Some(Some(function)) if !exists(function) => {
                    return Err(invalid(format!("The destination ARN {arn} is invalid.")));
                }
                Some(Some(function)) if function == name => {
                    return Err(invalid(
                        "You can't specify the function as a destination for itself.",
                    ));
                }
                Some(_) => {}
                None => return Err(self.refused(destinations)),
            }
        }
        // "S3 buckets can be on-failure destinations only."
        let on_success = destinations.on_success.as_deref();
        if on_success.is_some_and(|arn| arn.split(':').nth(2) == Some("s3")) {
            return Err(self.refused(destinations));
        }
        Ok(())
    }

    fn refused(&self, destinations: &Destinations) -> crate::error::Error {
        let shown = |kind: &str, arn: &Option<String>| match arn {
            Some(arn) => format!("{kind}(destination={arn})"),
            None => "null".to_owned(),
        };
        invalid(format!(
            "The provided destination config DestinationConfig(onSuccess={}, onFailure={}) is invalid.",
            shown("OnSuccess", &destinations.on_success),
            shown("OnFailure", &destinations.on_failure)
        ))
    }
}

impl Function {
    pub(super) fn set_event_invoke(
        &mut self,
        qualifier: Option<&Qualifier>,
        members: &EventInvokeMembers,
        is_update: bool,
        stamp: &Stamp<'_>,
    ) -> Result<()> {
        if self.check_named(qualifier, stamp.region).is_err() {
            return Err(not_found("The function doesn't exist."));
        }
        let key = qualifier.cloned().unwrap_or(LATEST);
        let known = self.attached.event_invoke.get(&key);
        let members = match known {
            Some(known) if is_update => EventInvokeMembers {
                retries: members.retries.or(known.members.retries),
                max_age_s: members.max_age_s.or(known.members.max_age_s),
                destinations: members
                    .destinations
                    .clone()
                    .or_else(|| known.members.destinations.clone()),
            },
            None if is_update => return Err(self.no_event_invoke(&key, stamp.region)),
            Some(_) | None => members.clone(),
        };
        let config = EventInvokeConfig {
            members,
            last_modified: stamp.at,
        };
        self.attached.event_invoke.insert(key, config);
        Ok(())
    }

    pub(super) fn delete_event_invoke(
        &mut self,
        qualifier: Option<&Qualifier>,
        region: &str,
    ) -> Result<()> {
        let key = qualifier.cloned().unwrap_or(LATEST);
        match self.attached.event_invoke.remove(&key) {
            Some(_) => Ok(()),
            None => Err(self.no_event_invoke(&key, region)),
        }
    }

    /// AWS's 404 of a configuration that there is not.
    pub fn no_event_invoke(&self, qualifier: &Qualifier, region: &str) -> crate::error::Error {
        let arn = self.arn_named(Some(qualifier), region);
        not_found(format!(
            "The function {arn} doesn't have an EventInvokeConfig"
        ))
    }
}
