//! From what a request says to a configuration: defaults, checks beyond the model, and the members that have no
//! effect yet, which are kept and given back.

use std::collections::BTreeMap;

use hearth_aws_api::ApiError;
use hearth_aws_api::lambda::{
    self, CreateFunctionRequest, DeadLetterConfig, Environment, EphemeralStorage, FileSystemConfig,
    ImageConfig, LoggingConfig, SnapStart, TracingConfig, UpdateFunctionConfigurationRequest,
    VpcConfig,
};
use hearth_core::function::{ConfigPatch, FunctionConfig, PackageType};
use hearth_core::image::NOT_FOR_IMAGES;
use hearth_core::limits::{
    ENVIRONMENT_MAX_BYTES, EPHEMERAL_STORAGE_MAX_MIB, LAYERS_MAX, TIMEOUT_MAX_S,
};
use serde_json::{Value, json};

use super::errors::unsupported;
use super::unsigned;

/// Runtimes that AWS does not take any more.
const DEPRECATED: [&str; 20] = [
    "nodejs",
    "nodejs4.3",
    "nodejs4.3-edge",
    "nodejs6.10",
    "nodejs8.10",
    "nodejs10.x",
    "nodejs12.x",
    "nodejs14.x",
    "java8",
    "python2.7",
    "python3.6",
    "python3.7",
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "go1.x",
    "ruby2.5",
    "ruby2.7",
    "provided",
];

/// Runtimes with SnapStart. Source: "Lambda SnapStart" of AWS's guide, "Supported features and limitations".
const SNAP_START: [&str; 9] = [
    "java11",
    "java17",
    "java21",
    "java25",
    "python3.12",
    "python3.13",
    "python3.14",
    "dotnet8",
    "dotnet10",
];

/// Variables that the runtime sets. Source: "Defined runtime environment variables" of AWS's guide, the reserved ones.
const RESERVED_VARIABLES: [&str; 16] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
];

/// Members of the model that are kept without effect, in the form in which requests send them.
#[derive(Default)]
struct Kept(BTreeMap<String, String>);

impl Kept {
    fn put(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.to_string());
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one per member of the model, named alike in both requests"
    )]
    fn put_shared(
        &mut self,
        vpc: Option<VpcConfig>,
        dead_letter: Option<DeadLetterConfig>,
        key: Option<String>,
        tracing: Option<TracingConfig>,
        files: Option<Vec<FileSystemConfig>>,
        image: Option<ImageConfig>,
        snap_start: Option<SnapStart>,
        logging: Option<LoggingConfig>,
    ) {
        let vpc = vpc.map(|v| {
            json!({
                "SubnetIds": v.subnet_ids.unwrap_or_default(),
                "SecurityGroupIds": v.security_group_ids.unwrap_or_default(),
                "Ipv6AllowedForDualStack": v.ipv6_allowed_for_dual_stack.unwrap_or_default(),
            })
        });
        self.put("VpcConfig", vpc);
        self.put("DeadLetterConfig", dead_letter.map(|v| json!(v)));
        self.put("KMSKeyArn", key.map(Value::String));
        self.put("TracingConfig", tracing.map(|v| json!({ "Mode": v.mode })));
        self.put("FileSystemConfigs", files.map(|v| json!(v)));
        self.put("ImageConfig", image.map(|v| json!(v)));
        self.put(
            "SnapStart",
            snap_start.map(|v| json!({ "ApplyOn": v.apply_on })),
        );
        self.put("LoggingConfig", logging.map(|v| json!(v)));
    }
}

/// The configuration of a new function.
pub(super) fn of_create(input: CreateFunctionRequest) -> Result<FunctionConfig, ApiError> {
    check_package(&input)?;
    check_runtime(input.runtime.as_deref())?;
    check_layers(input.layers.as_deref())?;
    check_snap_start(input.snap_start.as_ref(), input.runtime.as_deref())?;
    let managed = [
        (
            "CapacityProviderConfig",
            input.capacity_provider_config.is_some(),
        ),
        ("DurableConfig", input.durable_config.is_some()),
        ("TenancyConfig", input.tenancy_config.is_some()),
        ("AcceleratorConfig", input.accelerator_config.is_some()),
    ];
    check_managed(&managed)?;
    let package_type = package_type(&input);
    let mut config = FunctionConfig::with_defaults(input.role.unwrap_or_default());
    config.package_type = package_type;
    config.runtime = input.runtime;
    config.handler = input.handler;
    config.description = input.description.unwrap_or_default();
    if let Some(timeout) = input.timeout {
        config.timeout_s = timeout_s(timeout)?;
    }
    if let Some(memory) = input.memory_size {
        config.memory_mib = memory_mib(memory)?;
    }
    if let Some(size) = ephemeral_mib(input.ephemeral_storage)? {
        config.ephemeral_storage_mib = size;
    }
    config.environment = environment(input.environment)?;
    config.layers = input.layers.unwrap_or_default();
    if let Some(architectures) = input.architectures {
        config.architectures = architectures;
    }
    let mut kept = Kept::default();
    kept.put_shared(
        input.vpc_config,
        input.dead_letter_config,
        input.kms_key_arn,
        input.tracing_config,
        input.file_system_configs,
        input.image_config,
        input.snap_start,
        input.logging_config,
    );
    config.kept = kept.0;
    Ok(config)
}

/// What an update changes.
pub(super) fn of_update(
    input: UpdateFunctionConfigurationRequest,
) -> Result<ConfigPatch, ApiError> {
    check_runtime(input.runtime.as_deref())?;
    check_layers(input.layers.as_deref())?;
    check_snap_start(input.snap_start.as_ref(), input.runtime.as_deref())?;
    let managed = [
        (
            "CapacityProviderConfig",
            input.capacity_provider_config.is_some(),
        ),
        ("DurableConfig", input.durable_config.is_some()),
        ("AcceleratorConfig", input.accelerator_config.is_some()),
    ];
    check_managed(&managed)?;
    let mut kept = Kept::default();
    kept.put_shared(
        input.vpc_config,
        input.dead_letter_config,
        input.kms_key_arn,
        input.tracing_config,
        input.file_system_configs,
        input.image_config,
        input.snap_start,
        input.logging_config,
    );
    Ok(ConfigPatch {
        runtime: input.runtime,
        handler: input.handler,
        role: input.role,
        description: input.description,
        timeout_s: input.timeout.map(timeout_s).transpose()?,
        memory_mib: input.memory_size.map(memory_mib).transpose()?,
        ephemeral_storage_mib: ephemeral_mib(input.ephemeral_storage)?,
        environment: environment(input.environment)?,
        layers: input.layers,
        kept: kept.0,
    })
}

fn check_package(input: &CreateFunctionRequest) -> Result<(), ApiError> {
    if package_type(input) == PackageType::Image {
        let has_layers = input
            .layers
            .as_ref()
            .is_some_and(|layers| !layers.is_empty());
        if input.runtime.is_some() || input.handler.is_some() || has_layers {
            return Err(ApiError::invalid_parameter_value(NOT_FOR_IMAGES));
        }
        return Ok(());
    }
    if input.runtime.is_none() || input.handler.is_none() {
        return Err(ApiError::invalid_parameter_value(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        ));
    }
    match input.image_config {
        Some(_) => check_image_config(PackageType::Zip),
        None => Ok(()),
    }
}

fn package_type(input: &CreateFunctionRequest) -> PackageType {
    match input.package_type.as_deref() {
        Some("Image") => PackageType::Image,
        Some(_) | None => PackageType::Zip,
    }
}

/// `ImageConfig` would have no effect on a function of archives.
pub(super) fn check_image_config(package_type: PackageType) -> Result<(), ApiError> {
    match package_type {
        PackageType::Image => Ok(()),
        PackageType::Zip => Err(ApiError::invalid_parameter_value(
            "Please don't provide ImageConfig when the intended function PackageType is Zip.",
        )),
    }
}

fn check_runtime(runtime: Option<&str>) -> Result<(), ApiError> {
    match runtime {
        Some(runtime) if DEPRECATED.contains(&runtime) => {
            Err(ApiError::invalid_parameter_value(format!(
                "The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// Which layers there are is the controllers' to know.
fn check_layers(layers: Option<&[String]>) -> Result<(), ApiError> {
    if layers.is_some_and(|layers| layers.len() > LAYERS_MAX) {
        return Err(ApiError::invalid_parameter_value(format!(
            "Cannot reference more than {LAYERS_MAX} layers."
        )));
    }
    Ok(())
}

/// Snapshots are for runtimes that can be told of them. An update that names no runtime is not checked.
fn check_snap_start(asked: Option<&SnapStart>, runtime: Option<&str>) -> Result<(), ApiError> {
    let is_on = asked.and_then(|s| s.apply_on.as_deref()) == Some("PublishedVersions");
    match runtime {
        Some(runtime) if is_on && !SNAP_START.contains(&runtime) => {
            Err(ApiError::invalid_parameter_value(format!(
                "{runtime} is not supported for SnapStart enabled functions."
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// Members whose absence would change what the function does are refused rather than kept.
fn check_managed(members: &[(&str, bool)]) -> Result<(), ApiError> {
    match members.iter().find(|(_, is_sent)| *is_sent) {
        Some((name, _)) => Err(unsupported(name)),
        None => Ok(()),
    }
}

/// The model allows what managed instances allow; ordinary functions have less.
fn timeout_s(seconds: i32) -> Result<u32, ApiError> {
    let value = unsigned(seconds);
    if value <= TIMEOUT_MAX_S {
        return Ok(value);
    }
    Err(at_most(seconds, "timeout", TIMEOUT_MAX_S))
}

fn memory_mib(mib: i32) -> Result<u32, ApiError> {
    let value = unsigned(mib);
    let most = hearth_core::limits::MEMORY_MAX_MIB;
    if value <= most {
        return Ok(value);
    }
    Err(at_most(mib, "memorySize", most))
}

fn at_most(value: i32, path: &str, most: u32) -> ApiError {
    ApiError::validation(format!(
        "1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: Member must have value less than or equal to {most}"
    ))
}

fn ephemeral_mib(storage: Option<EphemeralStorage>) -> Result<Option<u32>, ApiError> {
    let Some(mib) = storage.and_then(|storage| storage.size) else {
        return Ok(None);
    };
    if unsigned(mib) <= EPHEMERAL_STORAGE_MAX_MIB {
        return Ok(Some(unsigned(mib)));
    }
    Err(at_most(
        mib,
        "ephemeralStorage.size",
        EPHEMERAL_STORAGE_MAX_MIB,
    ))
}

fn environment(sent: Option<Environment>) -> Result<Option<BTreeMap<String, String>>, ApiError> {
    let Some(sent) = sent else { return Ok(None) };
    let variables = sent.variables.unwrap_or_default();
    lambda::rules::check_environment_size(&variables, ENVIRONMENT_MAX_BYTES)?;
    let reserved: Vec<&str> = RESERVED_VARIABLES
        .into_iter()
        .filter(|name| variables.contains_key(*name))
        .collect();
    if reserved.is_empty() {
        return Ok(Some(variables));
    }
    Err(ApiError::invalid_parameter_value(format!(
        "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {}",
        reserved.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create() -> CreateFunctionRequest {
        CreateFunctionRequest {
            runtime: Some("python3.11".into()),
            handler: Some("main.handler".into()),
            role: Some("arn:aws:iam::000000000000:role/r".into()),
            ..CreateFunctionRequest::default()
        }
    }

    fn refusal(change: impl FnOnce(&mut CreateFunctionRequest)) -> String {
        let mut input = create();
        change(&mut input);
        of_create(input).unwrap_err().message().to_owned()
    }

    #[test]
    fn members_without_effect_are_kept() {
        let mut input = create();
        input.tracing_config = Some(TracingConfig {
            mode: Some("Active".into()),
        });
        input.vpc_config = Some(VpcConfig {
            subnet_ids: Some(vec!["s".into()]),
            ..VpcConfig::default()
        });
        let config = of_create(input).unwrap();
        assert_eq!(config.kept["TracingConfig"], r#"{"Mode":"Active"}"#);
        assert!(config.kept["VpcConfig"].contains(r#""SubnetIds":["s"]"#));
        assert_eq!(
            (config.timeout_s, config.memory_mib, config.environment),
            (3, 128, None)
        );
    }

    #[test]
    fn checks_beyond_the_model_speak_as_aws() {
        assert!(refusal(|i| i.handler = None).starts_with("Runtime and Handler are mandatory"));
        assert!(
            refusal(|i| i.runtime = Some("java8".into()))
                .starts_with("The runtime parameter of java8 is no")
        );
        assert_eq!(
            refusal(|i| i.package_type = Some("Image".into())),
            NOT_FOR_IMAGES
        );
        assert!(
            refusal(|i| i.image_config = Some(ImageConfig::default()))
                .ends_with("PackageType is Zip.")
        );
        let layers = |count| Some(vec!["arn:l:1".to_owned(); count]);
        assert_eq!(
            refusal(|i| i.layers = layers(6)),
            "Cannot reference more than 5 layers."
        );
        assert!(
            refusal(|i| i.ephemeral_storage = Some(EphemeralStorage { size: Some(10_241) }))
                .contains("'ephemeralStorage.size'")
        );
        let snap_start = |apply_on: &str| {
            Some(SnapStart {
                apply_on: Some(apply_on.into()),
            })
        };
        assert_eq!(
            refusal(|i| i.snap_start = snap_start("PublishedVersions")),
            "python3.11 is not supported for SnapStart enabled functions."
        );
        assert!(refusal(|i| i.timeout = Some(901)).ends_with("less than or equal to 900"));
        let variables = |name: &str, value: String| {
            Some(Environment {
                variables: Some([(name.to_owned(), value)].into()),
            })
        };
        assert!(
            refusal(|i| i.environment = variables("A", "x".repeat(5_000)))
                .contains("exceeded the 4KB limit")
        );
        assert!(
            refusal(|i| i.environment = variables("AWS_REGION", "x".into()))
                .ends_with("request: AWS_REGION")
        );
    }

    #[test]
    fn an_empty_environment_is_not_an_absent_one() {
        let mut input = create();
        input.environment = Some(Environment::default());
        assert_eq!(of_create(input).unwrap().environment, Some(BTreeMap::new()));
    }
}
