//! Reserved concurrency: Put-, Get- and DeleteFunctionConcurrency. The limits are the controllers' to check.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    Concurrency, DeleteFunctionConcurrencyRequest, GetFunctionConcurrencyRequest,
    GetFunctionConcurrencyResponse, PutFunctionConcurrencyRequest,
};
use hearth_core::control::ControlRequest;
use hearth_core::function::Function;
use hearth_core::ids::Version;
use hearth_core::name::{FunctionRef, Qualifier};

use super::{Answer, Call, control_function, owned, read, unqualified, unsigned};
use crate::app::App;

pub(super) async fn put(app: &App, call: &Call) -> Answer {
    let input: PutFunctionConcurrencyRequest = call.input()?;
    let function = function(app, call, input.function_name.as_deref())?;
    let reserved = input.reserved_concurrent_executions.map(unsigned);
    let changed = set(app, &function, reserved).await?;
    call.output(&Concurrency {
        reserved_concurrent_executions: shown(&changed),
    })
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteFunctionConcurrencyRequest = call.input()?;
    let function = function(app, call, input.function_name.as_deref())?;
    set(app, &function, None).await?;
    call.empty()
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetFunctionConcurrencyRequest = call.input()?;
    let function = function(app, call, input.function_name.as_deref())?;
    let found = read(app, &function).await?;
    call.output(&GetFunctionConcurrencyResponse {
        reserved_concurrent_executions: shown(&found),
    })
}

/// AWS names `$LATEST` when the function does not exist.
fn function(app: &App, call: &Call, name: Option<&str>) -> Result<FunctionRef, ApiError> {
    let function = unqualified(app, call, name)?;
    Ok(FunctionRef {
        qualifier: Some(Qualifier::Version(Version::Latest)),
        ..function
    })
}

async fn set(
    app: &App,
    function: &FunctionRef,
    reserved: Option<u32>,
) -> Result<Function, ApiError> {
    let (account, name) = owned(function);
    let request = ControlRequest::SetReservedConcurrency {
        account,
        name,
        reserved,
    };
    control_function(app, &request, function).await
}

fn shown(function: &Function) -> Option<i32> {
    function
        .reserved_concurrency
        .and_then(|n| i32::try_from(n).ok())
}
