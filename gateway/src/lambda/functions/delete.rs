//! DeleteFunction.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{DeleteFunctionRequest, DeleteFunctionResponse};
use hearth_core::control::{ControlRequest, VersionChange};
use hearth_core::ids::Version;
use hearth_core::name::{FunctionRef, Qualifier};

use super::super::{Answer, Call, control, owned};
use crate::app::App;
use crate::catalog::FunctionKey;

/// "204: the function was deleted", as AWS answers although the model says 200.
const DELETED: i32 = 204;

pub(in crate::lambda) async fn handle(app: &App, call: &Call) -> Answer {
    let input: DeleteFunctionRequest = call.input()?;
    let name = input.function_name.as_deref();
    let named = call.function(app, name, input.qualifier.as_deref())?;
    // A missing function is named without its qualifier.
    let function = FunctionRef {
        qualifier: None,
        ..named.clone()
    };
    match named.qualifier {
        None => delete(app, &function).await?,
        Some(Qualifier::Version(Version::Latest)) => {
            return Err(ApiError::invalid_parameter_value(
                "$LATEST version cannot be deleted without deleting the function.",
            ));
        }
        Some(Qualifier::Version(Version::Number(version))) => {
            let (account, name) = owned(&function);
            let request = ControlRequest::ChangeVersions {
                account,
                name,
                change: VersionChange::Delete { version },
            };
            control(app, &request, &function).await?;
        }
        Some(Qualifier::Alias(_)) => {
            return Err(ApiError::invalid_parameter_value(
                "Deletion of aliases is not currently supported.",
            ));
        }
    }
    call.output(&DeleteFunctionResponse {
        status_code: Some(DELETED),
    })
}

async fn delete(app: &App, function: &FunctionRef) -> Result<(), ApiError> {
    let (account, name) = owned(function);
    let key = FunctionKey {
        account: account.clone(),
        name: name.clone(),
    };
    let request = ControlRequest::DeleteFunction { account, name };
    control(app, &request, function).await?;
    app.catalog.deleted_here(&key);
    Ok(())
}
