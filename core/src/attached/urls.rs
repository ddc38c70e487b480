//! URLs of functions: addresses at which they are reached over plain HTTP, without the API.

use serde::{Deserialize, Serialize};

use super::{LATEST, Stamp, not_found};
use crate::error::{Error, ErrorCode, Result};
use crate::function::Function;
use crate::ids::UnixMs;
use crate::name::Qualifier;

/// Who may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UrlAuth {
    /// Everybody whom the resource policy lets.
    None,
    /// Signed requests.
    #[default]
    AwsIam,
}

/// How the function answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvokeMode {
    /// At once.
    #[default]
    Buffered,
    /// As it goes.
    ResponseStream,
}

/// What browsers are told of other origins; members as they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Whether cookies may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<bool>,
    /// Headers that may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<String>>,
    /// Methods that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Origins that may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origins: Option<Vec<String>>,
    /// Headers that scripts may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<Vec<String>>,
    /// How long this holds, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u32>,
}

/// One URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlConfig {
    /// The first label of its host name.
    pub id: String,
    /// Who may call.
    pub auth: UrlAuth,
    /// What browsers are told, when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// How it answers.
    pub mode: InvokeMode,
    /// When it was made.
    pub created: UnixMs,
    /// When it was last changed.
    pub last_modified: UnixMs,
}

/// What a request says of a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlMembers {
    /// See [`UrlConfig::auth`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<UrlAuth>,
    /// See [`UrlConfig::cors`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// See [`UrlConfig::mode`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<InvokeMode>,
}

impl UrlConfig {
    pub(super) fn metadata_bytes(&self) -> usize {
        let cors = self.cors.iter().flat_map(|cors| {
            let lists = [&cors.headers, &cors.methods, &cors.origins, &cors.exposed];
            lists
                .into_iter()
                .flatten()
                .flatten()
                .map(|text| text.len() + 3)
        });
        250 + cors.sum::<usize>()
    }
}

/// AWS's 404 of a URL of a function or alias that there is not.
pub const NO_FUNCTION: &str = "Function does not exist";
/// AWS's 404 of a URL that there is not.
pub const NO_URL: &str = "The resource you requested does not exist.";

impl Function {
    fn check_url_target(&self, qualifier: Option<&Qualifier>) -> Result<()> {
        match qualifier {
            Some(Qualifier::Alias(alias)) if !self.aliases.contains_key(alias) => {
                Err(not_found(NO_FUNCTION))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn create_url(
        &mut self,
        qualifier: Option<&Qualifier>,
        members: &UrlMembers,
        stamp: &Stamp<'_>,
    ) -> Result<()> {
        let key = qualifier.cloned().unwrap_or(LATEST);
        if self.attached.urls.contains_key(&key) {
            let arn = self.arn_named(qualifier, stamp.region);
            return Err(Error::new(
                ErrorCode::ResourceConflict,
                format!(
                    "Failed to create function url config for [functionArn = {arn}]. Error message:  FunctionUrlConfig exists for this Lambda function"
                ),
            ));
        }
        self.check_url_target(qualifier)?;
        let url = UrlConfig {
            // Chosen by the proposer, as the revision is.
            id: stamp.revision_id.replace('-', ""),
            auth: members.auth.unwrap_or_default(),
            cors: members.cors.clone(),
            mode: members.mode.unwrap_or_default(),
            created: stamp.at,
            last_modified: stamp.at,
        };
        self.attached.urls.insert(key, url);
        Ok(())
    }

    pub(super) fn update_url(
        &mut self,
        qualifier: Option<&Qualifier>,
        members: &UrlMembers,
        stamp: &Stamp<'_>,
    ) -> Result<()> {
        self.check_url_target(qualifier)?;
        let key = qualifier.unwrap_or(&LATEST);
        let url = self.attached.urls.get_mut(key);
        let url = url.ok_or_else(|| not_found(NO_URL))?;
        url.auth = members.auth.unwrap_or(url.auth);
        url.mode = members.mode.unwrap_or(url.mode);
        if members.cors.is_some() {
            url.cors.clone_from(&members.cors);
        }
        url.last_modified = stamp.at;
        Ok(())
    }

    pub(super) fn delete_url(&mut self, qualifier: Option<&Qualifier>) -> Result<()> {
        let key = qualifier.unwrap_or(&LATEST);
        match self.attached.urls.remove(key) {
            Some(_) => Ok(()),
            None => Err(not_found(NO_URL)),
        }
    }
}
