//! From operation to handler, or to the reason why there is none; nothing else. `scripts/operations` reads this file for the
//! table in the README.

use std::sync::Arc;

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::Operation;

use super::invoke_stream::Answered;
use super::{
    Answer, Call, account, aliases, concurrency, event_invoke, functions, invoke, invoke_stream,
    layer_policy, layers, mappings, permissions, provisioned, runtime_config, signing, tags, urls,
    versions,
};
use crate::app::App;

/// Runs the handler of a request.
pub(crate) async fn dispatch(app: &Arc<App>, call: &Call) -> Result<Answered, ApiError> {
    match call.route.operation {
        Operation::InvokeWithResponseStream => invoke_stream::handle(app, call).await,
        _ => whole(app, call).await.map(Answered::Whole),
    }
}

/// As [`dispatch`], for operations whose answer is there at once.
pub(crate) async fn whole(app: &App, call: &Call) -> Answer {
    match call.route.operation {
        Operation::AddPermission => permissions::add(app, call).await,
        Operation::CreateAlias => aliases::create(app, call).await,
        Operation::CreateFunction => functions::create::handle(app, call).await,
        Operation::CreateFunctionUrlConfig => urls::create(app, call).await,
        Operation::DeleteAlias => aliases::delete(app, call).await,
        Operation::DeleteFunction => functions::delete::handle(app, call).await,
        Operation::DeleteFunctionConcurrency => concurrency::delete(app, call).await,
        Operation::DeleteFunctionEventInvokeConfig => event_invoke::delete(app, call).await,
        Operation::DeleteFunctionUrlConfig => urls::delete(app, call).await,
        Operation::DeleteProvisionedConcurrencyConfig => provisioned::delete(app, call).await,
        Operation::DeleteResourcePolicy => permissions::delete_document(app, call).await,
        Operation::GetAlias => aliases::get(app, call).await,
        Operation::GetFunction => functions::get::function(app, call).await,
        Operation::GetFunctionConcurrency => concurrency::get(app, call).await,
        Operation::GetFunctionConfiguration => functions::get::configuration(app, call).await,
        Operation::GetFunctionEventInvokeConfig => event_invoke::get(app, call).await,
        Operation::GetFunctionRecursionConfig => runtime_config::get_recursion(app, call).await,
        Operation::GetFunctionScalingConfig => runtime_config::get_scaling(app, call).await,
        Operation::GetFunctionUrlConfig => urls::get(app, call).await,
        Operation::GetPolicy => permissions::get(app, call).await,
        Operation::GetProvisionedConcurrencyConfig => provisioned::get(app, call).await,
        Operation::GetResourcePolicy => permissions::get_document(app, call).await,
        Operation::GetRuntimeManagementConfig => runtime_config::get_management(app, call).await,
        Operation::Invoke => invoke::handle(app, call).await,
        Operation::InvokeAsync => invoke::handle_async(app, call).await,
        Operation::ListAliases => aliases::list(app, call).await,
        Operation::ListFunctionEventInvokeConfigs => event_invoke::list(app, call).await,
        Operation::ListFunctionUrlConfigs => urls::list(app, call).await,
        Operation::ListFunctions => functions::list::handle(app, call).await,
        Operation::ListProvisionedConcurrencyConfigs => provisioned::list(app, call).await,
        Operation::ListVersionsByFunction => versions::list(app, call).await,
        Operation::PublishVersion => versions::publish(app, call).await,
        Operation::PutFunctionConcurrency => concurrency::put(app, call).await,
        Operation::PutFunctionEventInvokeConfig => event_invoke::put(app, call).await,
        Operation::PutFunctionRecursionConfig => runtime_config::put_recursion(app, call).await,
        Operation::PutFunctionScalingConfig => runtime_config::put_scaling(app, call).await,
        Operation::PutProvisionedConcurrencyConfig => provisioned::put(app, call).await,
        Operation::PutResourcePolicy => permissions::put_document(app, call).await,
        Operation::PutRuntimeManagementConfig => runtime_config::put_management(app, call).await,
        Operation::RemovePermission => permissions::remove(app, call).await,
        Operation::UpdateAlias => aliases::update(app, call).await,
        Operation::UpdateFunctionCode => functions::update::code(app, call).await,
        Operation::UpdateFunctionConfiguration => functions::update::configuration(app, call).await,
        Operation::UpdateFunctionEventInvokeConfig => event_invoke::update(app, call).await,
        Operation::UpdateFunctionUrlConfig => urls::update(app, call).await,
        other => beside(app, call, other).await,
    }
}

/// What an account has beside functions.
async fn beside(app: &App, call: &Call, operation: Operation) -> Answer {
    match operation {
        Operation::AddLayerVersionPermission => layer_policy::add(app, call).await,
        Operation::CreateCodeSigningConfig => signing::create(app, call).await,
        Operation::CreateEventSourceMapping => mappings::create(app, call).await,
        Operation::DeleteCodeSigningConfig => signing::delete(app, call).await,
        Operation::DeleteEventSourceMapping => mappings::delete(app, call).await,
        Operation::DeleteFunctionCodeSigningConfig => signing::delete_function(app, call).await,
        Operation::DeleteLayerVersion => layers::delete(app, call).await,
        Operation::GetAccountSettings => account::get(app, call).await,
        Operation::GetCodeSigningConfig => signing::get(app, call).await,
        Operation::GetEventSourceMapping => mappings::get(app, call).await,
        Operation::GetFunctionCodeSigningConfig => signing::get_function(app, call).await,
        Operation::GetLayerVersion => layers::get(app, call).await,
        Operation::GetLayerVersionByArn => layers::get_by_arn(app, call).await,
        Operation::GetLayerVersionPolicy => layer_policy::get(app, call).await,
        Operation::ListCodeSigningConfigs => signing::list(app, call).await,
        Operation::ListEventSourceMappings => mappings::list(app, call).await,
        Operation::ListFunctionsByCodeSigningConfig => signing::list_functions(app, call).await,
        Operation::ListLayerVersions => layers::list_versions(app, call).await,
        Operation::ListLayers => layers::list(app, call).await,
        Operation::ListTags => tags::list(app, call).await,
        Operation::PublishLayerVersion => layers::publish(app, call).await,
        Operation::PutFunctionCodeSigningConfig => signing::put_function(app, call).await,
        Operation::RemoveLayerVersionPermission => layer_policy::remove(app, call).await,
        Operation::TagResource => tags::tag(app, call).await,
        Operation::UntagResource => tags::untag(app, call).await,
        Operation::UpdateCodeSigningConfig => signing::update(app, call).await,
        Operation::UpdateEventSourceMapping => mappings::update(app, call).await,
        other => Err(refused(other)),
    }
}

fn refused(operation: Operation) -> ApiError {
    ApiError::not_implemented(format!(
        "Hearth does not implement {} yet: {}.",
        operation.name(),
        reason(operation)
    ))
}

fn reason(operation: Operation) -> &'static str {
    match operation {
        Operation::CreateCapacityProvider
        | Operation::DeleteCapacityProvider
        | Operation::GetCapacityProvider
        | Operation::ListCapacityProviders
        | Operation::ListFunctionVersionsByCapacityProvider
        | Operation::UpdateCapacityProvider => {
            "functions run on the cluster's own workers, there are no capacity providers"
        }
        Operation::CheckpointDurableExecution
        | Operation::DeleteDurableExecution
        | Operation::GetDurableExecution
        | Operation::GetDurableExecutionHistory
        | Operation::GetDurableExecutionState
        | Operation::ListDurableExecutionsByFunction
        | Operation::PauseDurableExecution
        | Operation::ResumeDurableExecution
        | Operation::SendDurableExecutionCallbackFailure
        | Operation::SendDurableExecutionCallbackHeartbeat
        | Operation::SendDurableExecutionCallbackSuccess
        | Operation::StopDurableExecution => "there are no durable executions",
        _ => "it has no handler",
    }
}
