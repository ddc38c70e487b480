//! A function as the cluster keeps it: configuration, code by digest, state. No wire shapes here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attached::Attached;
use crate::ids::{AccountId, Digest, PoolKey, UnixMs, Version, VersionKey};
use crate::limits;
use crate::name::{FunctionName, Qualifier};
use crate::versions::{Alias, ProvisionedConcurrency, PublishedVersion};

/// How code arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackageType {
    /// A zip archive.
    #[default]
    Zip,
    /// A container image.
    Image,
}

/// Code of a version: an archive or an image by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRef {
    /// SHA-256 of the archive, its name in the blob store; or of the image's manifest.
    pub digest: Digest,
    /// Size of the archive, bytes; zero of an image, which is its registry's to store.
    pub size_bytes: u64,
    /// What the archive says it unpacks to, bytes; zero where it was not asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unpacked_bytes: u64,
    /// Of a container image: the reference it was named by, which may meanwhile lead elsewhere. The digest says what is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl CodeRef {
    /// AWS's `CodeSha256`: of an archive in base64, of an image the digits of its digest.
    pub fn shown_sha256(&self) -> String {
        match self.image {
            Some(_) => self.digest.to_string(),
            None => self.digest.base64(),
        }
    }
}

/// What a user configures; one snapshot of it belongs to each version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionConfig {
    /// Runtime name (`python3.11`); absent for images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Handler in the runtime's own notation; absent for images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// ARN of the execution role.
    pub role: String,
    /// Free text, may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Longest invocation, seconds.
    pub timeout_s: u32,
    /// Memory limit of a sandbox, MB; CPU is in proportion.
    pub memory_mib: u32,
    /// Size of /tmp, MB.
    pub ephemeral_storage_mib: u32,
    /// Environment; `None` when the user never sent one, which AWS shows differently from an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, String>>,
    /// How the code arrives.
    #[serde(default)]
    pub package_type: PackageType,
    /// Instruction sets (`x86_64`).
    pub architectures: Vec<String>,
    /// Layer version ARNs in the order they are merged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// Their archives, in the same order: a layer version that is deleted stays with the functions that name it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer_contents: Vec<CodeRef>,
    /// Members that are validated and kept: name in the model -> its JSON text. `ImageConfig` is what workers run, `DeadLetterConfig`
    /// where failed events go; the others have no effect yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<String, String>,
}

impl FunctionConfig {
    /// A configuration with AWS's defaults.
    pub fn with_defaults(role: String) -> Self {
        Self {
            runtime: None,
            handler: None,
            role,
            description: String::new(),
            timeout_s: limits::TIMEOUT_DEFAULT_S,
            memory_mib: limits::MEMORY_DEFAULT_MIB,
            ephemeral_storage_mib: limits::EPHEMERAL_STORAGE_DEFAULT_MIB,
            environment: None,
            package_type: PackageType::Zip,
            architectures: vec!["x86_64".into()],
            layers: Vec::new(),
            layer_contents: Vec::new(),
            kept: BTreeMap::new(),
        }
    }

    /// ARN of the queue or topic for events that failed. An empty one takes it away.
    pub fn dead_letter(&self) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct DeadLetterConfig {
            target_arn: Option<String>,
        }
        let kept = self.kept.get("DeadLetterConfig")?;
        let config: DeadLetterConfig = serde_json::from_str(kept).ok()?;
        config.target_arn.filter(|arn| !arn.is_empty())
    }
}

/// Members of an update that were sent; the others stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigPatch {
    /// See [`FunctionConfig::runtime`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// See [`FunctionConfig::handler`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// See [`FunctionConfig::role`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// See [`FunctionConfig::description`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// See [`FunctionConfig::timeout_s`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
    /// See [`FunctionConfig::memory_mib`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// See [`FunctionConfig::ephemeral_storage_mib`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage_mib: Option<u32>,
    /// See [`FunctionConfig::environment`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, String>>,
    /// See [`FunctionConfig::layers`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<String>>,
    /// See [`FunctionConfig::kept`]; a member sent replaces that member.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<String, String>,
}

impl ConfigPatch {
    /// `config` with the members of the patch in place.
    pub fn apply_to(&self, config: &mut FunctionConfig) {
        fn set<T: Clone>(to: &mut T, from: Option<&T>) {
            if let Some(value) = from {
                *to = value.clone();
            }
        }
        if self.runtime.is_some() {
            config.runtime.clone_from(&self.runtime);
        }
        if self.handler.is_some() {
            config.handler.clone_from(&self.handler);
        }
        if self.environment.is_some() {
            config.environment.clone_from(&self.environment);
        }
        set(&mut config.role, self.role.as_ref());
        set(&mut config.description, self.description.as_ref());
        set(&mut config.timeout_s, self.timeout_s.as_ref());
        set(&mut config.memory_mib, self.memory_mib.as_ref());
        set(
            &mut config.ephemeral_storage_mib,
            self.ephemeral_storage_mib.as_ref(),
        );
        set(&mut config.layers, self.layers.as_ref());
        config
            .kept
            .extend(self.kept.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
}

/// Whether a function can be invoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Being made; invocations are refused.
    Pending,
    /// At least one worker holds the code, unpacked and valid.
    Active,
    /// Cannot be made.
    Failed(StateReason),
}

/// How the last update went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateStatus {
    /// Never updated and still being created.
    None,
    /// Being carried out; the version before it still serves.
    InProgress,
    /// Serves.
    Successful,
    /// Could not be carried out; the version before it still serves.
    Failed(StateReason),
}

/// Why a state is what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReason {
    /// AWS's code (`InvalidRuntime`, `InvalidZipFileException`, ...).
    pub code: String,
    /// For people: what to do next.
    pub message: String,
}

/// One version: a snapshot of code and configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionVersion {
    /// Which.
    pub version: Version,
    /// Log index of the last change; together with the version the identity of a sandbox.
    pub generation: u64,
    /// Configuration.
    pub config: FunctionConfig,
    /// Code.
    pub code: CodeRef,
    /// When it was last changed.
    pub last_modified: UnixMs,
    /// Changes with every mutation.
    pub revision_id: String,
}

/// A named resource owned by an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// The owner.
    pub account: AccountId,
    /// The name.
    pub name: FunctionName,
    /// `$LATEST` as the API shows it.
    pub latest: FunctionVersion,
    /// `$LATEST` as invocations run it; differs from `latest` while an update is in progress or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<FunctionVersion>,
    /// Whether it can be invoked.
    pub state: State,
    /// How the last update went.
    pub update: UpdateStatus,
    /// Reserved concurrency, when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_concurrency: Option<u32>,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Published versions, by number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<u64, PublishedVersion>,
    /// The newest number ever given to a version; none is given twice. Zero before the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_version: u64,
    /// Aliases, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, Alias>,
    /// Provisioned concurrency, by the version or alias it was asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provisioned: BTreeMap<Qualifier, ProvisionedConcurrency>,
    /// What hangs on it, its versions and aliases.
    #[serde(default, skip_serializing_if = "Attached::is_empty")]
    pub attached: Attached,
    /// Log index of the newest change of versions, aliases, provisioned concurrency or what hangs on them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub changed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Function {
    /// The key of a version's sandboxes.
    pub fn version_key(&self, version: &FunctionVersion) -> VersionKey {
        VersionKey {
            account: self.account.clone(),
            function: self.name.clone(),
            version: version.version,
            generation: version.generation,
        }
    }

    /// The pool that invocations of the function draw from unless they find a provisioned permit.
    pub fn pool(&self) -> PoolKey {
        match self.reserved_concurrency {
            Some(_) => PoolKey::reserved(&self.account, &self.name),
            None => PoolKey::unreserved(&self.account),
        }
    }
}
