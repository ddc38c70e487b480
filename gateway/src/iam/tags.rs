//! Tags of roles, users and policies: Tag-, Untag-, List...Tags.

use std::collections::BTreeMap;

use hearth_aws_api::iam::Tag;
use hearth_aws_api::protocol::query::{QueryError, QueryErrorCode};
use hearth_core::iam::{IamChange, IamEntity, IamKey};
use serde_json::json;

use super::entities::{change, read};
use super::policies::own_key;
use super::{Answer, Call, Members};
use crate::app::App;

/// Tags of an input; a key that is there twice is refused.
pub(super) fn from_model(tags: Option<Vec<Tag>>) -> Result<BTreeMap<String, String>, QueryError> {
    let tags = tags.into_iter().flatten();
    let pairs = tags.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()));
    distinct(pairs)
}

fn distinct(
    pairs: impl Iterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, QueryError> {
    let mut tags = BTreeMap::new();
    for (key, value) in pairs {
        if tags.insert(key, value).is_some() {
            return Err(QueryError::new(
                QueryErrorCode::InvalidInput,
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
            ));
        }
    }
    Ok(tags)
}

/// Which entity an input on roles, users or policies names.
fn key(call: &Call, members: &Members) -> Result<IamKey, QueryError> {
    if let Some(name) = members.optional("RoleName") {
        return Ok(IamKey::Role(name));
    }
    if let Some(name) = members.optional("UserName") {
        return Ok(IamKey::User(name));
    }
    own_key(call, &members.text("PolicyArn"))
}

pub(super) async fn tag(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let text = |tag: &serde_json::Value, name: &str| {
        let text = tag.get(name).and_then(|value| value.as_str());
        text.unwrap_or_default().to_owned()
    };
    let set = members.list("Tags");
    let set = distinct(set.map(|tag| (text(tag, "Key"), text(tag, "Value"))))?;
    let tag = IamChange::Tag {
        key: key(call, &members)?,
        set,
        remove: Vec::new(),
    };
    change(app, call, tag).await?;
    call.empty()
}

pub(super) async fn untag(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let keys = members.list("TagKeys").filter_map(|key| key.as_str());
    let tag = IamChange::Tag {
        key: key(call, &members)?,
        set: BTreeMap::new(),
        remove: keys.map(str::to_owned).collect(),
    };
    change(app, call, tag).await?;
    call.empty()
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let members = call.members()?;
    let asked = members.page()?;
    let entity: IamEntity = read(app, call, key(call, &members)?).await?;
    let tags = entity.tags.iter();
    let tags = tags.map(|(key, value)| (key.clone(), json!({"Key": key, "Value": value})));
    let (tags, marker) = asked.cut(tags);
    call.output_members(&json!({"Tags": tags, "IsTruncated": marker.is_some(), "Marker": marker}))
}
