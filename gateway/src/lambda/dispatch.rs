//! From operation to handler, and nothing else. An operation that is not here is answered by
//! [`lambda::not_implemented`].

use hearth_aws_api::lambda::{self, Operation};

use super::{
    Answer, Call, account, aliases, concurrency, functions, invoke, layer_policy, layers,
    provisioned, tags, versions,
};
use crate::app::App;

/// Runs the handler of a request.
pub(crate) async fn dispatch(app: &App, call: &Call) -> Answer {
    match call.route.operation {
        Operation::AddLayerVersionPermission => layer_policy::add(app, call).await,
        Operation::CreateAlias => aliases::create(app, call).await,
        Operation::CreateFunction => functions::create::handle(app, call).await,
        Operation::DeleteAlias => aliases::delete(app, call).await,
        Operation::DeleteFunction => functions::delete::handle(app, call).await,
        Operation::DeleteFunctionConcurrency => concurrency::delete(app, call).await,
        Operation::DeleteLayerVersion => layers::delete(app, call).await,
        Operation::DeleteProvisionedConcurrencyConfig => provisioned::delete(app, call).await,
        Operation::GetAccountSettings => account::get(app, call).await,
        Operation::GetAlias => aliases::get(app, call).await,
        Operation::GetFunction => functions::get::function(app, call).await,
        Operation::GetFunctionConcurrency => concurrency::get(app, call).await,
        Operation::GetFunctionConfiguration => functions::get::configuration(app, call).await,
        Operation::GetLayerVersion => layers::get(app, call).await,
        Operation::GetLayerVersionByArn => layers::get_by_arn(app, call).await,
        Operation::GetLayerVersionPolicy => layer_policy::get(app, call).await,
        Operation::GetProvisionedConcurrencyConfig => provisioned::get(app, call).await,
        Operation::Invoke => invoke::handle(app, call).await,
        Operation::ListAliases => aliases::list(app, call).await,
        Operation::ListFunctions => functions::list::handle(app, call).await,
        Operation::ListLayerVersions => layers::list_versions(app, call).await,
        Operation::ListLayers => layers::list(app, call).await,
        Operation::ListProvisionedConcurrencyConfigs => provisioned::list(app, call).await,
        Operation::ListTags => tags::list(app, call).await,
        Operation::ListVersionsByFunction => versions::list(app, call).await,
        Operation::PublishLayerVersion => layers::publish(app, call).await,
        Operation::PublishVersion => versions::publish(app, call).await,
        Operation::PutFunctionConcurrency => concurrency::put(app, call).await,
        Operation::PutProvisionedConcurrencyConfig => provisioned::put(app, call).await,
        Operation::RemoveLayerVersionPermission => layer_policy::remove(app, call).await,
        Operation::TagResource => tags::tag(app, call).await,
        Operation::UntagResource => tags::untag(app, call).await,
        Operation::UpdateAlias => aliases::update(app, call).await,
        Operation::UpdateFunctionCode => functions::update::code(app, call).await,
        Operation::UpdateFunctionConfiguration => functions::update::configuration(app, call).await,
        other => Err(lambda::not_implemented(other)),
    }
}
