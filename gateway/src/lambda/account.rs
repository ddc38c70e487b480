//! GetAccountSettings.

use hearth_aws_api::lambda::{AccountLimit, AccountUsage, GetAccountSettingsResponse};
use hearth_core::control::{AccountSummary, ControlReply, ControlRequest};
use hearth_core::limits::{UNZIPPED_MAX_BYTES, ZIPPED_MAX_BYTES};

use super::errors::api_error;
use super::{Answer, Call, unexpected};
use crate::app::App;

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let request = ControlRequest::GetAccount {
        account: call.caller.account.clone(),
    };
    match app.controllers.execute(&request).await.map_err(api_error)? {
        ControlReply::Account(summary) => call.output(&document(&summary)),
        other => Err(unexpected(&other)),
    }
}

fn document(summary: &AccountSummary) -> GetAccountSettingsResponse {
    let long = |value: u64| i64::try_from(value).ok();
    let integer = |value: u32| i32::try_from(value).ok();
    GetAccountSettingsResponse {
        account_limit: Some(AccountLimit {
            total_code_size: long(summary.code_storage_limit_bytes),
            code_size_unzipped: long(UNZIPPED_MAX_BYTES),
            code_size_zipped: i64::try_from(ZIPPED_MAX_BYTES).ok(),
            concurrent_executions: integer(summary.concurrency_limit),
            unreserved_concurrent_executions: integer(summary.unreserved),
        }),
        account_usage: Some(AccountUsage {
            total_code_size: long(summary.code_bytes),
            function_count: long(summary.functions),
        }),
    }
}
