//! STS: who the caller is.

use hearth_aws_api::sts::{GetCallerIdentityRequest, GetCallerIdentityResponse};

use super::{Answer, Call};

pub(super) fn caller_identity(call: &Call) -> Answer {
    let _: GetCallerIdentityRequest = call.input()?;
    let caller = &call.caller;
    call.output(&GetCallerIdentityResponse {
        user_id: Some(caller.user_id()),
        account: Some(caller.account.as_str().to_owned()),
        arn: Some(caller.arn()),
    })
}
