//! Functions as AWS shows them. What is absent, what is empty and what is always there was recorded from AWS.

use hearth_aws_api::lambda::{
    DeadLetterConfig, EnvironmentResponse, EphemeralStorage, FileSystemConfig,
    FunctionCodeLocation, FunctionConfiguration, ImageConfig, ImageConfigResponse, Layer,
    LoggingConfig, RuntimeVersionConfig, SnapStart, SnapStartResponse, TracingConfig,
    TracingConfigResponse, VpcConfig, VpcConfigResponse,
};
use hearth_core::function::{
    Function, FunctionConfig, FunctionVersion, PackageType, State, UpdateStatus,
};
use hearth_core::ids::{Digest, UnixMs, Version};
use hearth_core::image::{Overrides, Reference, process::IMAGE_CONFIG};
use hearth_core::name::{Qualifier, function_arn};
use serde::de::DeserializeOwned;
use sha2::Digest as _;
use time::OffsetDateTime;
use time::macros::format_description;

/// "The function is being created.", also while it is being updated.
const IN_PROGRESS: &str = "The function is being created.";
const IN_PROGRESS_CODE: &str = "Creating";

/// The document of `$LATEST`. `qualifier` is what was asked for, and is shown in the ARN.
pub(super) fn configuration(
    function: &Function,
    region: &str,
    qualifier: Option<&Qualifier>,
) -> FunctionConfiguration {
    let arn = function_arn(region, &function.account, &function.name);
    let arn = match qualifier {
        Some(qualifier) => format!("{arn}:{qualifier}"),
        None => arn,
    };
    let states = (&function.state, &function.update);
    snapshot(
        &function.latest,
        states,
        function.name.as_str(),
        arn,
        region,
    )
}

/// The document of any version, with the version in its ARN.
pub(super) fn version(
    function: &Function,
    version: Version,
    region: &str,
) -> FunctionConfiguration {
    let qualifier = Qualifier::Version(version);
    named(function, version, region, Some(&qualifier))
}

/// The document of a version, with what it was asked for by in its ARN. A published one that does not exist is shown as
/// `$LATEST`: callers have looked.
pub(super) fn named(
    function: &Function,
    version: Version,
    region: &str,
    qualifier: Option<&Qualifier>,
) -> FunctionConfiguration {
    let published = match version {
        Version::Latest => None,
        Version::Number(n) => function.versions.get(&n),
    };
    let Some(published) = published else {
        return configuration(function, region, qualifier);
    };
    let arn = function_arn(region, &function.account, &function.name);
    let arn = match qualifier {
        Some(qualifier) => format!("{arn}:{qualifier}"),
        None => arn,
    };
    let update = match &published.state {
        State::Pending => UpdateStatus::None,
        State::Active => UpdateStatus::Successful,
        State::Failed(why) => UpdateStatus::Failed(why.clone()),
    };
    let states = (&published.state, &update);
    snapshot(
        &published.snapshot,
        states,
        function.name.as_str(),
        arn,
        region,
    )
}

/// "The ListFunctions operation returns a subset of the FunctionConfiguration fields."
pub(super) fn listed(document: FunctionConfiguration) -> FunctionConfiguration {
    FunctionConfiguration {
        state: None,
        state_reason: None,
        state_reason_code: None,
        last_update_status: None,
        last_update_status_reason: None,
        last_update_status_reason_code: None,
        runtime_version_config: None,
        ..document
    }
}

fn snapshot(
    latest: &FunctionVersion,
    states: (&State, &UpdateStatus),
    name: &str,
    arn: String,
    region: &str,
) -> FunctionConfiguration {
    let config = &latest.config;
    let (state, state_reason, state_reason_code) = state(states.0);
    let (update, update_reason, update_code) = update(states.1);
    FunctionConfiguration {
        function_name: Some(name.to_owned()),
        function_arn: Some(arn),
        runtime: config.runtime.clone(),
        role: Some(config.role.clone()),
        handler: config.handler.clone(),
        code_size: i64::try_from(latest.code.size_bytes).ok(),
        description: Some(config.description.clone()),
        timeout: i32::try_from(config.timeout_s).ok(),
        memory_size: i32::try_from(config.memory_mib).ok(),
        last_modified: Some(last_modified(latest.last_modified)),
        code_sha256: Some(latest.code.shown_sha256()),
        layers: layers(config),
        version: Some(latest.version.to_string()),
        environment: config
            .environment
            .clone()
            .map(|variables| EnvironmentResponse {
                variables: Some(variables),
                error: None,
            }),
        revision_id: Some(latest.revision_id.clone()),
        state,
        state_reason,
        state_reason_code,
        last_update_status: update,
        last_update_status_reason: update_reason,
        last_update_status_reason_code: update_code,
        package_type: Some(package_type(config.package_type).to_owned()),
        architectures: Some(config.architectures.clone()),
        ephemeral_storage: Some(EphemeralStorage {
            size: i32::try_from(config.ephemeral_storage_mib).ok(),
        }),
        runtime_version_config: config
            .runtime
            .as_deref()
            .map(|runtime| runtime_version(runtime, region)),
        ..kept(config, name)
    }
}

/// Where the image of a version is: as it was named, and as it was found.
pub(super) fn image_location(uri: &str, digest: Digest) -> FunctionCodeLocation {
    let resolved = uri.parse::<Reference>().ok();
    FunctionCodeLocation {
        // AWS knows no other registry.
        repository_type: Some("ECR".to_owned()),
        image_uri: Some(uri.to_owned()),
        resolved_image_uri: resolved.map(|reference| reference.pinned(digest).to_string()),
        ..FunctionCodeLocation::default()
    }
}

fn package_type(package_type: PackageType) -> &'static str {
    match package_type {
        PackageType::Zip => "Zip",
        PackageType::Image => "Image",
    }
}

type Status = (Option<String>, Option<String>, Option<String>);

fn state(state: &State) -> Status {
    let some = |text: &str| Some(text.to_owned());
    match state {
        State::Pending => (some("Pending"), some(IN_PROGRESS), some(IN_PROGRESS_CODE)),
        State::Active => (some("Active"), None, None),
        State::Failed(why) => (some("Failed"), some(&why.message), some(&why.code)),
    }
}

fn update(update: &UpdateStatus) -> Status {
    let some = |text: &str| Some(text.to_owned());
    match update {
        UpdateStatus::None => (None, None, None),
        UpdateStatus::InProgress => (
            some("InProgress"),
            some(IN_PROGRESS),
            some(IN_PROGRESS_CODE),
        ),
        UpdateStatus::Successful => (some("Successful"), None, None),
        UpdateStatus::Failed(why) => (some("Failed"), some(&why.message), some(&why.code)),
    }
}

/// `2020-01-01T00:00:00.000+0000`.
/// Absent when there is none.
fn layers(config: &FunctionConfig) -> Option<Vec<Layer>> {
    let both = config.layers.iter().zip(&config.layer_contents);
    let layers: Vec<Layer> = both
        .map(|(arn, content)| Layer {
            arn: Some(arn.clone()),
            code_size: i64::try_from(content.size_bytes).ok(),
            ..Layer::default()
        })
        .collect();
    Some(layers).filter(|layers| !layers.is_empty())
}

pub(super) fn last_modified(at: UnixMs) -> String {
    let format = format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]+0000"
    );
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_default()
}

/// AWS names runtime versions by a digest; ours is of the runtime's name.
pub(super) fn runtime_version(runtime: &str, region: &str) -> RuntimeVersionConfig {
    let digest = hex::encode(sha2::Sha256::digest(runtime));
    RuntimeVersionConfig {
        runtime_version_arn: Some(format!("arn:aws:lambda:{region}::runtime:{digest}")),
        error: None,
    }
}

/// The members that have no effect yet, as they were sent, or AWS's defaults of those it always shows.
fn kept(config: &FunctionConfig, name: &str) -> FunctionConfiguration {
    let tracing: Option<TracingConfig> = member(config, "TracingConfig");
    let mode = tracing
        .and_then(|t| t.mode)
        .unwrap_or_else(|| "PassThrough".to_owned());
    let key: Option<String> = member(config, "KMSKeyArn");
    let is_overridden = !Overrides::of(config).is_empty();
    let image: Option<ImageConfig> = member(config, IMAGE_CONFIG).filter(|_| is_overridden);
    let files: Option<Vec<FileSystemConfig>> = member(config, "FileSystemConfigs");
    FunctionConfiguration {
        vpc_config: member(config, "VpcConfig").map(vpc),
        dead_letter_config: config.dead_letter().map(|arn| DeadLetterConfig {
            target_arn: Some(arn),
        }),
        kms_key_arn: key.filter(|arn| !arn.is_empty()),
        tracing_config: Some(TracingConfigResponse { mode: Some(mode) }),
        file_system_configs: files.filter(|files| !files.is_empty()),
        image_config_response: image.map(|image_config| ImageConfigResponse {
            image_config: Some(image_config),
            error: None,
        }),
        snap_start: Some(snap_start(member(config, "SnapStart"))),
        logging_config: Some(logging(member(config, "LoggingConfig"), name)),
        ..FunctionConfiguration::default()
    }
}

/// What was validated when it came; a member that cannot be read is as if it had not been sent.
fn member<T: DeserializeOwned>(config: &FunctionConfig, name: &str) -> Option<T> {
    serde_json::from_str(config.kept.get(name)?).ok()
}

fn vpc(sent: VpcConfig) -> VpcConfigResponse {
    VpcConfigResponse {
        subnet_ids: Some(sent.subnet_ids.unwrap_or_default()),
        security_group_ids: Some(sent.security_group_ids.unwrap_or_default()),
        vpc_id: Some(String::new()),
        ipv6_allowed_for_dual_stack: Some(sent.ipv6_allowed_for_dual_stack.unwrap_or_default()),
    }
}

fn snap_start(sent: Option<SnapStart>) -> SnapStartResponse {
    let apply_on = sent
        .and_then(|s| s.apply_on)
        .unwrap_or_else(|| "None".to_owned());
    SnapStartResponse {
        apply_on: Some(apply_on),
        optimization_status: Some("Off".to_owned()),
    }
}

fn logging(sent: Option<LoggingConfig>, name: &str) -> LoggingConfig {
    let mut logging = sent.unwrap_or_default();
    let format = logging.log_format.get_or_insert_with(|| "Text".to_owned());
    if format == "JSON" {
        logging
            .application_log_level
            .get_or_insert_with(|| "INFO".to_owned());
        logging
            .system_log_level
            .get_or_insert_with(|| "INFO".to_owned());
    }
    logging
        .log_group
        .get_or_insert_with(|| format!("/aws/lambda/{name}"));
    logging
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::function;
    use hearth_core::function::StateReason;
    use serde_json::{Value, json};

    fn shown(function: &Function) -> Value {
        serde_json::to_value(configuration(function, "us-east-1", None)).unwrap()
    }

    /// The whole document of an active function, member by member.
    #[test]
    fn active_function_is_shown_as_aws_shows_it() {
        let digest = hex::encode(sha2::Sha256::digest("python3.11"));
        assert_eq!(
            shown(&function("f", 1)),
            json!({
                "FunctionName": "f",
                "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f",
                "Runtime": "python3.11",
                "Role": "arn:aws:iam::000000000000:role/r",
                "Handler": "main.handler",
                "CodeSize": 123,
                "Description": "",
                "Timeout": 3,
                "MemorySize": 128,
                "LastModified": "2020-01-01T00:00:00.000+0000",
                "CodeSha256": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
                "Version": "$LATEST",
                "TracingConfig": { "Mode": "PassThrough" },
                "RevisionId": "5d7b5dc5-7e3c-4b5e-8d4b-000000000001",
                "State": "Active",
                "LastUpdateStatus": "Successful",
                "PackageType": "Zip",
                "Architectures": ["x86_64"],
                "EphemeralStorage": { "Size": 512 },
                "SnapStart": { "ApplyOn": "None", "OptimizationStatus": "Off" },
                "RuntimeVersionConfig": {
                    "RuntimeVersionArn": format!("arn:aws:lambda:us-east-1::runtime:{digest}")
                },
                "LoggingConfig": { "LogFormat": "Text", "LogGroup": "/aws/lambda/f" },
            })
        );
    }

    #[test]
    fn a_function_of_an_image_has_no_runtime_and_shows_the_digest_as_it_is() {
        let mut f = function("f", 1);
        f.latest.config.runtime = None;
        f.latest.config.handler = None;
        f.latest.config.package_type = PackageType::Image;
        f.latest.code.size_bytes = 0;
        f.latest.code.image = Some("r.example.com:5000/fn/a:1".into());
        let empty = r#"{"EntryPoint":[],"Command":[]}"#;
        f.latest
            .config
            .kept
            .insert(IMAGE_CONFIG.into(), empty.into());
        let document = shown(&f);
        assert_eq!(document["CodeSha256"], "07".repeat(32));
        assert_eq!(
            (&document["PackageType"], &document["CodeSize"]),
            (&json!("Image"), &json!(0))
        );
        for absent in [
            "Runtime",
            "Handler",
            "RuntimeVersionConfig",
            "ImageConfigResponse",
        ] {
            assert_eq!(document.get(absent), None, "{absent}");
        }
        let text = r#"{"Command":["b.h"]}"#;
        f.latest
            .config
            .kept
            .insert(IMAGE_CONFIG.into(), text.into());
        assert_eq!(
            shown(&f)["ImageConfigResponse"],
            json!({ "ImageConfig": { "Command": ["b.h"] } })
        );
        let location = image_location("r.example.com:5000/fn/a:1", f.latest.code.digest);
        let resolved = format!("r.example.com:5000/fn/a@sha256:{}", "07".repeat(32));
        assert_eq!(
            serde_json::to_value(location).unwrap(),
            json!({ "RepositoryType": "ECR", "ImageUri": "r.example.com:5000/fn/a:1", "ResolvedImageUri": resolved })
        );
    }

    #[test]
    fn states_are_worded_as_aws_words_them() {
        let mut f = function("f", 1);
        f.state = State::Pending;
        f.update = UpdateStatus::None;
        let pending = shown(&f);
        assert_eq!(pending["State"], "Pending");
        assert_eq!(pending["StateReason"], "The function is being created.");
        assert_eq!(pending["StateReasonCode"], "Creating");
        assert_eq!(pending.get("LastUpdateStatus"), None);
        f.state = State::Active;
        f.update = UpdateStatus::InProgress;
        let updating = shown(&f);
        assert_eq!(updating.get("StateReason"), None);
        assert_eq!(updating["LastUpdateStatus"], "InProgress");
        assert_eq!(
            updating["LastUpdateStatusReason"],
            "The function is being created."
        );
        assert_eq!(updating["LastUpdateStatusReasonCode"], "Creating");
        f.state = State::Failed(StateReason {
            code: "InvalidRuntime".into(),
            message: "none".into(),
        });
        let failed = shown(&f);
        assert_eq!(
            (&failed["State"], &failed["StateReasonCode"]),
            (&json!("Failed"), &json!("InvalidRuntime"))
        );
    }

    #[test]
    fn an_empty_environment_is_shown_and_an_absent_one_is_not() {
        let mut f = function("f", 1);
        assert_eq!(shown(&f).get("Environment"), None);
        f.latest.config.environment = Some(Default::default());
        assert_eq!(shown(&f)["Environment"], json!({ "Variables": {} }));
    }

    #[test]
    fn kept_members_come_back() {
        let mut f = function("f", 1);
        for (name, text) in [
            (
                "VpcConfig",
                r#"{"SubnetIds":["s"],"SecurityGroupIds":[],"Ipv6AllowedForDualStack":false}"#,
            ),
            ("LoggingConfig", r#"{"LogFormat":"JSON"}"#),
            ("DeadLetterConfig", r#"{"TargetArn":""}"#),
            ("TracingConfig", r#"{"Mode":"Active"}"#),
        ] {
            f.latest.config.kept.insert(name.into(), text.into());
        }
        let document = shown(&f);
        assert_eq!(document["VpcConfig"]["SubnetIds"], json!(["s"]));
        assert_eq!(document["LoggingConfig"]["SystemLogLevel"], "INFO");
        assert_eq!(document["TracingConfig"]["Mode"], "Active");
        assert_eq!(document.get("DeadLetterConfig"), None);
    }
}
