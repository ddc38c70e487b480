//! What a function finds in its environment: AWS's reserved variables, the runtime's own, the user's.
//!
//! Credentials of the execution role are not here.

use std::collections::BTreeMap;

use hearth_core::function::FunctionVersion;
use hearth_core::ids::VersionKey;

use super::Manifest;
use crate::sandbox::driver::RUNTIME_API_ADDRESS;

/// What the environment of one sandbox is made of.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) key: &'a VersionKey,
    pub(crate) version: &'a FunctionVersion,
    pub(crate) manifest: &'a Manifest,
    pub(crate) region: &'a str,
    /// Day of the start as `2006/01/02`, part of the log stream's name.
    pub(crate) day: &'a str,
    /// Whether it is made for provisioned concurrency.
    pub(crate) is_provisioned: bool,
    /// Distinguishes the log streams of sandboxes: 32 hexadecimal digits.
    pub(crate) instance: &'a str,
}

/// The complete environment, sorted by name. "Reserved environment variables" of AWS's guide; the user's variables win
/// over those AWS lets be set, and never over the reserved ones.
pub(crate) fn environment(facts: &Facts<'_>) -> Vec<(String, String)> {
    let config = &facts.version.config;
    let name = facts.key.function.as_str();
    let version = facts.key.version.to_string();
    let stream = format!("{}/[{version}]{}", facts.day, facts.instance);
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |name: &str, value: &str| drop(env.insert(name.to_owned(), value.to_owned()));
    // These may be set by the user.
    put("LANG", "en_US.UTF-8");
    put("TZ", ":UTC");
    put("PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin");
    put(
        "LD_LIBRARY_PATH",
        "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    );
    for (name, value) in &facts.manifest.env {
        put(name, value);
    }
    for (name, value) in config.environment.iter().flatten() {
        put(name, value);
    }
    put("_HANDLER", config.handler.as_deref().unwrap_or_default());
    put("AWS_DEFAULT_REGION", facts.region);
    put("AWS_REGION", facts.region);
    put(
        "AWS_EXECUTION_ENV",
        &format!(
            "AWS_Lambda_{}",
            config.runtime.as_deref().unwrap_or("Image")
        ),
    );
    put("AWS_LAMBDA_FUNCTION_NAME", name);
    put(
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        &config.memory_mib.to_string(),
    );
    put("AWS_LAMBDA_FUNCTION_VERSION", &version);
    let initialization = if facts.is_provisioned {
        "provisioned-concurrency"
    } else {
        "on-demand"
    };
    put("AWS_LAMBDA_INITIALIZATION_TYPE", initialization);
    put("AWS_LAMBDA_LOG_GROUP_NAME", &format!("/aws/lambda/{name}"));
    put("AWS_LAMBDA_LOG_STREAM_NAME", &stream);
    put("AWS_LAMBDA_RUNTIME_API", RUNTIME_API_ADDRESS);
    put(
        "LAMBDA_TASK_ROOT",
        &facts.manifest.code_target.to_string_lossy(),
    );
    put("LAMBDA_RUNTIME_DIR", "/var/runtime");
    env.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::version;

    #[test]
    fn reserved_names_are_the_platforms_and_others_the_users() {
        let (key, mut version) = version("f", 1);
        version.config.runtime = Some("python3.11".into());
        version.config.handler = Some("app.handler".into());
        let user = [
            ("TZ", "Europe/Berlin"),
            ("AWS_REGION", "moon"),
            ("MINE", "1"),
        ];
        version.config.environment = Some(user.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
        let manifest: Manifest =
            toml::from_str("name='r'\nrecipe='1'\nargv=[]\nenv={ PYTHONPATH='/x', LANG='C' }")
                .unwrap();
        let env = environment(&Facts {
            key: &key,
            version: &version,
            manifest: &manifest,
            region: "us-east-1",
            day: "2030/01/02",
            is_provisioned: false,
            instance: "ab",
        });
        let find = |name: &str| {
            let found = env.iter().find(|(n, _)| n == name);
            found.map(|(_, v)| v.as_str())
        };
        for (name, value) in [
            ("TZ", "Europe/Berlin"),
            ("MINE", "1"),
            ("AWS_REGION", "us-east-1"),
            ("LANG", "C"),
            ("PYTHONPATH", "/x"),
            ("_HANDLER", "app.handler"),
            ("AWS_EXECUTION_ENV", "AWS_Lambda_python3.11"),
            ("AWS_LAMBDA_FUNCTION_NAME", "f"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "2030/01/02/[$LATEST]ab"),
            ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
            ("LAMBDA_TASK_ROOT", "/var/task"),
        ] {
            assert_eq!(find(name), Some(value), "{name}");
        }
    }
}
