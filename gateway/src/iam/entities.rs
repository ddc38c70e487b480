//! What handlers ask of the controllers.

use hearth_aws_api::protocol::query::QueryError;
use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::iam::{IamChange, IamEntity, IamKey, IamNews, IamPage, IamQuery};
use hearth_core::policy::Policy;

use super::errors::{query_error, unexpected};
use super::page::{Asked, marker};
use super::{Call, no_such_entity};
use crate::app::App;

/// Carries a change out; the entity as it is then, or as it was when it was taken away.
pub(super) async fn change(
    app: &App,
    call: &Call,
    change: IamChange,
) -> Result<IamEntity, QueryError> {
    let request = ControlRequest::ChangeIam {
        account: call.caller.account.clone(),
        change: Box::new(change),
    };
    let reply = app.controllers.execute(&request).await;
    match reply.map_err(query_error)? {
        ControlReply::Iam(page) => {
            let first = page.entities.into_iter().next();
            let entity = first.ok_or_else(unexpected)?;
            app.iam.directory.merge([IamNews {
                account: call.caller.account.clone(),
                key: entity.key(),
                entity: Some(entity.clone()),
            }]);
            Ok(entity)
        }
        // Carried out before, by a request whose answer was lost, and gone since.
        ControlReply::Done => Err(no_such_entity("The entity is gone by now.")),
        _ => Err(unexpected()),
    }
}

/// Takes one away. A request whose answer was lost may have done so.
pub(super) async fn delete(app: &App, call: &Call, key: IamKey) -> Result<(), QueryError> {
    let request = ControlRequest::ChangeIam {
        account: call.caller.account.clone(),
        change: Box::new(IamChange::Delete { key: key.clone() }),
    };
    let reply = app.controllers.execute(&request).await;
    match reply.map_err(query_error)? {
        ControlReply::Iam(_) | ControlReply::Done => {
            app.iam.directory.deleted_here(&call.caller.account, &key);
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

/// The answer to a question.
pub(super) async fn query(app: &App, call: &Call, query: IamQuery) -> Result<IamPage, QueryError> {
    let request = ControlRequest::QueryIam {
        account: call.caller.account.clone(),
        query,
    };
    let reply = app.controllers.execute(&request).await;
    match reply.map_err(query_error)? {
        ControlReply::Iam(page) => Ok(page),
        _ => Err(unexpected()),
    }
}

/// One of them.
pub(super) async fn read(app: &App, call: &Call, key: IamKey) -> Result<IamEntity, QueryError> {
    let page = query(app, call, IamQuery::One(key)).await?;
    page.entities.into_iter().next().ok_or_else(unexpected)
}

/// Those of a kind, and the marker for the rest; the key says which kind.
pub(super) async fn list(
    app: &App,
    call: &Call,
    kind: fn(String) -> IamKey,
    path_prefix: Option<String>,
    asked: Asked,
) -> Result<(IamPage, Option<String>), QueryError> {
    let after = IamQuery::After {
        after: kind(asked.after),
        path_prefix: path_prefix.unwrap_or_else(|| "/".to_owned()),
        limit: asked.size,
    };
    let page = query(app, call, after).await?;
    let last = page.entities.last().filter(|_| page.more);
    let next = last.map(|last| marker(&last.name));
    Ok((page, next))
}

/// A document of an identity; refused if it is none.
pub(super) fn check_document(document: &str) -> Result<(), QueryError> {
    Policy::of_identity(document).map(drop).map_err(query_error)
}
