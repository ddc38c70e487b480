//! URLs of functions: Create-, Get-, Update-, List- and DeleteFunctionUrlConfig.

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    Cors as WireCors, CreateFunctionUrlConfigRequest, CreateFunctionUrlConfigResponse,
    DeleteFunctionUrlConfigRequest, FunctionUrlConfig, GetFunctionUrlConfigRequest,
    GetFunctionUrlConfigResponse, ListFunctionUrlConfigsRequest, ListFunctionUrlConfigsResponse,
    UpdateFunctionUrlConfigRequest, UpdateFunctionUrlConfigResponse,
};
use hearth_core::attached::{
    AttachedChange, Cors, InvokeMode, LATEST, NO_FUNCTION, NO_URL, UrlAuth, UrlConfig, UrlMembers,
};
use hearth_core::function::Function;
use hearth_core::ids::UnixMs;
use hearth_core::name::{FunctionRef, Qualifier};
use http::header::HOST;
use time::OffsetDateTime;
use time::macros::format_description;

use super::attached::{change, if_missing, read_or};
use super::{Answer, Call, page, unsigned};
use crate::app::App;
use crate::url::address::PREFIX;

pub(super) async fn create(app: &App, call: &Call) -> Answer {
    let input: CreateFunctionUrlConfigRequest = call.input()?;
    let name = input.function_name.as_deref();
    let function = call.function(app, name, input.qualifier.as_deref())?;
    let create = AttachedChange::CreateUrl {
        qualifier: function.qualifier.clone(),
        members: members(input.auth_type, input.cors, input.invoke_mode),
    };
    let made = change(app, &function, create).await;
    let made = made.map_err(|error| if_missing(app, &function, error, NO_FUNCTION))?;
    let shown = shown(app, call, &made, &function)?;
    call.output(&CreateFunctionUrlConfigResponse {
        function_url: shown.function_url,
        function_arn: shown.function_arn,
        auth_type: shown.auth_type,
        cors: shown.cors,
        creation_time: shown.creation_time,
        invoke_mode: shown.invoke_mode,
    })
}

pub(super) async fn update(app: &App, call: &Call) -> Answer {
    let input: UpdateFunctionUrlConfigRequest = call.input()?;
    let name = input.function_name.as_deref();
    let function = call.function(app, name, input.qualifier.as_deref())?;
    let update = AttachedChange::UpdateUrl {
        qualifier: function.qualifier.clone(),
        members: members(input.auth_type, input.cors, input.invoke_mode),
    };
    let changed = change(app, &function, update).await;
    let changed = changed.map_err(|error| if_missing(app, &function, error, NO_FUNCTION))?;
    let shown = shown(app, call, &changed, &function)?;
    call.output(&UpdateFunctionUrlConfigResponse {
        function_url: shown.function_url,
        function_arn: shown.function_arn,
        auth_type: shown.auth_type,
        cors: shown.cors,
        creation_time: shown.creation_time,
        last_modified_time: shown.last_modified_time,
        invoke_mode: shown.invoke_mode,
    })
}

pub(super) async fn get(app: &App, call: &Call) -> Answer {
    let input: GetFunctionUrlConfigRequest = call.input()?;
    let name = input.function_name.as_deref();
    let function = call.function(app, name, input.qualifier.as_deref())?;
    let found = read_or(app, &function, NO_URL).await?;
    let shown = shown(app, call, &found, &function)?;
    call.output(&GetFunctionUrlConfigResponse {
        function_url: shown.function_url,
        function_arn: shown.function_arn,
        auth_type: shown.auth_type,
        cors: shown.cors,
        creation_time: shown.creation_time,
        last_modified_time: shown.last_modified_time,
        invoke_mode: shown.invoke_mode,
    })
}

pub(super) async fn delete(app: &App, call: &Call) -> Answer {
    let input: DeleteFunctionUrlConfigRequest = call.input()?;
    let name = input.function_name.as_deref();
    let function = call.function(app, name, input.qualifier.as_deref())?;
    let delete = AttachedChange::DeleteUrl {
        qualifier: function.qualifier.clone(),
    };
    let deleted = change(app, &function, delete).await;
    deleted.map_err(|error| if_missing(app, &function, error, NO_URL))?;
    call.empty()
}

pub(super) async fn list(app: &App, call: &Call) -> Answer {
    let input: ListFunctionUrlConfigsRequest = call.input()?;
    let function = call.function(app, input.function_name.as_deref(), None)?;
    let after = input.marker.as_deref().map(page::from_marker).transpose()?;
    let found = read_or(app, &function, NO_FUNCTION).await?;
    let wanted = page::after(found.attached.urls.iter(), after.as_deref());
    let documents = wanted.map(|(qualifier, url)| {
        let document = document(app, call, &found, qualifier, url);
        (qualifier.to_string(), document)
    });
    let (configs, next_marker) = page::cut(documents, page::size(input.max_items));
    call.output(&ListFunctionUrlConfigsResponse {
        function_url_configs: Some(configs),
        next_marker,
    })
}

fn members(auth: Option<String>, cors: Option<WireCors>, mode: Option<String>) -> UrlMembers {
    UrlMembers {
        auth: auth.map(|auth| match auth.as_str() {
            "NONE" => UrlAuth::None,
            _ => UrlAuth::AwsIam,
        }),
        cors: cors.map(|cors| Cors {
            credentials: cors.allow_credentials,
            headers: cors.allow_headers,
            methods: cors.allow_methods,
            origins: cors.allow_origins,
            exposed: cors.expose_headers,
            max_age_s: cors.max_age.map(unsigned),
        }),
        mode: mode.map(|mode| match mode.as_str() {
            "RESPONSE_STREAM" => InvokeMode::ResponseStream,
            _ => InvokeMode::Buffered,
        }),
    }
}

fn shown(
    app: &App,
    call: &Call,
    found: &Function,
    function: &FunctionRef,
) -> Result<FunctionUrlConfig, ApiError> {
    let key = function.qualifier.as_ref().unwrap_or(&LATEST);
    let url = found.attached.urls.get(key);
    let url = url.ok_or_else(|| ApiError::resource_not_found(NO_URL))?;
    Ok(document(app, call, found, key, url))
}

fn document(
    app: &App,
    call: &Call,
    function: &Function,
    qualifier: &Qualifier,
    url: &UrlConfig,
) -> FunctionUrlConfig {
    let qualifier = Some(qualifier).filter(|q| **q != LATEST);
    let auth = match url.auth {
        UrlAuth::None => "NONE",
        UrlAuth::AwsIam => "AWS_IAM",
    };
    let mode = match url.mode {
        InvokeMode::Buffered => "BUFFERED",
        InvokeMode::ResponseStream => "RESPONSE_STREAM",
    };
    FunctionUrlConfig {
        function_url: Some(address(app, call, &url.id)),
        function_arn: Some(function.arn_named(qualifier, &app.catalog.region)),
        creation_time: Some(instant(url.created)),
        last_modified_time: Some(instant(url.last_modified)),
        cors: url.cors.clone().map(cors),
        auth_type: Some(auth.to_owned()),
        invoke_mode: Some(mode.to_owned()),
    }
}

fn cors(cors: Cors) -> WireCors {
    WireCors {
        allow_credentials: cors.credentials,
        allow_headers: cors.headers,
        allow_methods: cors.methods,
        allow_origins: cors.origins,
        expose_headers: cors.exposed,
        max_age: cors.max_age_s.and_then(|s| i32::try_from(s).ok()),
    }
}

/// Under the cluster's domain as AWS writes them, or at the host that the request came to.
fn address(app: &App, call: &Call, id: &str) -> String {
    let domain = &app.options.url_domain;
    if !domain.is_empty() {
        let region = &app.catalog.region;
        return format!("https://{id}.lambda-url.{region}.{domain}/");
    }
    let host = call.parts.headers.get(HOST).and_then(|h| h.to_str().ok());
    let authority = call.parts.uri.authority().map(http::uri::Authority::as_str);
    let host = host.or(authority).unwrap_or("localhost");
    format!("http://{host}{PREFIX}{id}/")
}

/// `2020-01-01T00:00:00.000000Z`.
fn instant(at: UnixMs) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_default()
}
