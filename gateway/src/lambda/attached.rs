//! What handlers of things that hang on functions share: how they name a function, and how a change of it is asked for.

use hearth_aws_api::{ApiError, ErrorCode};
use hearth_core::attached::AttachedChange;
use hearth_core::control::ControlRequest;
use hearth_core::function::Function;
use hearth_core::name::{FunctionRef, function_arn};

use super::{control_function, owned, read};
use crate::app::App;

/// Carries out a change of what hangs on a function. A 404 names the function as it was named.
pub(super) async fn change(
    app: &App,
    function: &FunctionRef,
    change: AttachedChange,
) -> Result<Function, ApiError> {
    let (account, name) = owned(function);
    let request = ControlRequest::ChangeAttached {
        account,
        name,
        change: Box::new(change),
    };
    control_function(app, &request, function).await
}

/// The function; `missing` is AWS's 404 when there is none.
pub(super) async fn read_or(
    app: &App,
    function: &FunctionRef,
    missing: &str,
) -> Result<Function, ApiError> {
    let found = read(app, function).await;
    found.map_err(|error| if_missing(app, function, error, missing))
}

/// The error, or AWS's own text of the operation when it says that the function does not exist.
pub(super) fn if_missing(
    app: &App,
    function: &FunctionRef,
    error: ApiError,
    missing: &str,
) -> ApiError {
    let arn = function_arn(&app.catalog.region, &function.account, &function.name);
    let is_missing = error.code() == ErrorCode::ResourceNotFoundException
        && error
            .message()
            .strip_prefix("Function not found: ")
            .is_some_and(|named| named.starts_with(&arn));
    if is_missing {
        ApiError::resource_not_found(missing)
    } else {
        error
    }
}
