//! An event into the log. Who may invoke the function, and that it is there, has been looked at before.

use bytes::Bytes;
use hearth_aws_api::ApiError;
use hearth_core::events::FunctionKey;
use hearth_core::limits::ASYNC_REQUEST_MAX_BYTES;
use hearth_core::name::FunctionRef;

use super::log::NewEvent;
use crate::app::App;
use crate::lambda::errors::api_error;
use crate::lambda::invoke::check_length;

/// Keeps an event of a client: 202 may be answered when this returns.
pub(crate) async fn accept(
    app: &App,
    request_id: &str,
    function: FunctionRef,
    payload: Bytes,
) -> Result<(), ApiError> {
    check_length(&payload, ASYNC_REQUEST_MAX_BYTES)?;
    let event = NewEvent {
        request_id: request_id.to_owned(),
        function: FunctionKey {
            account: function.account,
            function: function.name,
        },
        qualifier: function.qualifier,
        payload,
    };
    app.events.log.append(event).await.map_err(api_error)?;
    app.metrics.events_accepted.inc();
    Ok(())
}
