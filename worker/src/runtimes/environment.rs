//! What a function finds in its environment: AWS's reserved variables, the runtime's own, the user's.

use std::collections::BTreeMap;

use hearth_core::function::FunctionVersion;
use hearth_core::ids::VersionKey;

use super::Manifest;
use crate::catalog::RoleCredentials;
use crate::sandbox::driver::RUNTIME_API_ADDRESS;

/// What the environment of one sandbox is made of.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) key: &'a VersionKey,
    pub(crate) version: &'a FunctionVersion,
    pub(crate) region: &'a str,
    /// Day of the start as `2006/01/02`, part of the log stream's name.
    pub(crate) day: &'a str,
    /// Whether it is made for provisioned concurrency.
    pub(crate) is_provisioned: bool,
    /// Distinguishes the log streams of sandboxes: 32 hexadecimal digits.
    pub(crate) instance: &'a str,
    /// Of the execution role, if there are any.
    pub(crate) credentials: Option<&'a RoleCredentials>,
}

/// What a sandbox is made of, which brings variables of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// A runtime pack.
    Pack(&'a Manifest),
    /// A container image, with its `ENV`.
    Image(&'a [String]),
}

impl Origin<'_> {
    /// Variables that the user may set otherwise.
    fn own(self) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let mut put = |name: &str, value: &str| drop(env.insert(name.to_owned(), value.to_owned()));
        put("TZ", ":UTC");
        match self {
            Self::Pack(manifest) => {
                put("LANG", "en_US.UTF-8");
                put("PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin");
                put(
                    "LD_LIBRARY_PATH",
                    "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
                );
                for (name, value) in &manifest.env {
                    put(name, value);
                }
            }
            Self::Image(own) => {
                // What containers have that say nothing of it.
                put("PATH", IMAGE_PATH);
                for (name, value) in own.iter().filter_map(|one| one.split_once('=')) {
                    if !name.is_empty() && !name.contains('\0') && !value.contains('\0') {
                        put(name, value);
                    }
                }
            }
        }
        env
    }
}

/// What every function of a pack finds unless it sets it otherwise.
pub(crate) fn pack_environment(manifest: &Manifest) -> Vec<(String, String)> {
    Origin::Pack(manifest).own().into_iter().collect()
}

/// Where programs of an image are that has no `PATH`; Docker's default.
const IMAGE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The complete environment, sorted by name. "Reserved environment variables" of AWS's guide; the user's variables win
/// over those AWS lets be set, and never over the reserved ones.
pub(crate) fn environment(facts: &Facts<'_>, origin: Origin<'_>) -> Vec<(String, String)> {
    let config = &facts.version.config;
    let name = facts.key.function.as_str();
    let version = facts.key.version.to_string();
    let stream = format!("{}/[{version}]{}", facts.day, facts.instance);
    let mut env = origin.own();
    let mut put = |name: &str, value: &str| drop(env.insert(name.to_owned(), value.to_owned()));
    for (name, value) in config.environment.iter().flatten() {
        put(name, value);
    }
    // Of an image the handler is its own matter.
    if let Some(handler) = &config.handler {
        put("_HANDLER", handler);
    }
    if let Some(credentials) = facts.credentials {
        put("AWS_ACCESS_KEY_ID", &credentials.access_key_id);
        put("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key);
        put("AWS_SESSION_TOKEN", &credentials.session_token);
    }
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
    match origin {
        Origin::Pack(manifest) => {
            put("LAMBDA_TASK_ROOT", &manifest.code_target.to_string_lossy());
            put("LAMBDA_RUNTIME_DIR", "/var/runtime");
        }
        // AWS's base images say it themselves.
        Origin::Image(_) => {
            for (name, value) in [
                ("LAMBDA_TASK_ROOT", "/var/task"),
                ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ] {
                env.entry(name.to_owned())
                    .or_insert_with(|| value.to_owned());
            }
        }
    }
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
            ("AWS_SECRET_ACCESS_KEY", "own"),
            ("MINE", "1"),
        ];
        version.config.environment = Some(user.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
        let manifest: Manifest =
            toml::from_str("name='r'\nrecipe='1'\nargv=[]\nenv={ PYTHONPATH='/x', LANG='C' }")
                .unwrap();
        let facts = Facts {
            key: &key,
            version: &version,
            region: "us-east-1",
            day: "2030/01/02",
            is_provisioned: false,
            instance: "ab",
            credentials: Some(&RoleCredentials {
                access_key_id: "ASIA".into(),
                secret_access_key: "hush".into(),
                session_token: "token".into(),
                expires_ms: 0,
            }),
        };
        let env = environment(&facts, Origin::Pack(&manifest));
        let find = |name: &str| {
            let found = env.iter().find(|(n, _)| n == name);
            found.map(|(_, v)| v.as_str())
        };
        for (name, value) in [
            ("TZ", "Europe/Berlin"),
            ("MINE", "1"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "ASIA"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
            ("AWS_SESSION_TOKEN", "token"),
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

    #[test]
    fn an_images_own_variables_stand_below_the_users_and_the_platforms() {
        let (key, mut version) = version("f", 1);
        version.config.runtime = None;
        version.config.handler = None;
        let user = [("MINE", "user")];
        version.config.environment = Some(user.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
        let own = |own: &[&str]| {
            let own: Vec<String> = own.iter().map(|one| (*one).to_owned()).collect();
            let facts = Facts {
                key: &key,
                version: &version,
                region: "us-east-1",
                day: "2030/01/02",
                is_provisioned: false,
                instance: "ab",
                credentials: None,
            };
            let env = environment(&facts, Origin::Image(&own));
            env.into_iter().collect::<BTreeMap<_, _>>()
        };
        let env = own(&[
            "PATH=/var/lang/bin:/bin",
            "LAMBDA_TASK_ROOT=/function",
            "MINE=image",
            "AWS_LAMBDA_RUNTIME_API=elsewhere:1",
            "A=b=c",
            "=x",
            "none",
        ]);
        for (name, value) in [
            ("PATH", "/var/lang/bin:/bin"),
            ("LAMBDA_TASK_ROOT", "/function"),
            ("MINE", "user"),
            ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
            ("A", "b=c"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        for absent in ["", "none", "_HANDLER", "LD_LIBRARY_PATH"] {
            assert!(!env.contains_key(absent), "{absent}");
        }
        assert_eq!(own(&[])["PATH"], IMAGE_PATH);
    }
}
