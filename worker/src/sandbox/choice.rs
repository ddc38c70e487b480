//! A worker with more than one maker of sandboxes: each function has those it asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::driver::{Diagnosis, Driver, DriverError, Prepared, SandboxSpec, StartedSandbox};
use super::native::NativeDriver;
use super::oci::OciDriver;

/// The name of the native driver.
pub const NATIVE: &str = "native";

/// The makers of this worker, by name.
#[derive(Debug)]
pub struct Choice {
    native: Arc<NativeDriver>,
    others: BTreeMap<String, OciDriver>,
    /// Who makes sandboxes for functions that ask for nobody.
    default: String,
}

impl Choice {
    /// Makers of these names beside the native one.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] if `default` is none of them.
    pub fn new(
        native: Arc<NativeDriver>,
        others: BTreeMap<String, OciDriver>,
        default: String,
    ) -> Result<Self, DriverError> {
        let choice = Self {
            native,
            others,
            default,
        };
        if choice.default != NATIVE && !choice.others.contains_key(&choice.default) {
            return Err(choice.unknown(&choice.default));
        }
        Ok(choice)
    }

    fn unknown(&self, name: &str) -> DriverError {
        let known: Vec<&str> = std::iter::once(NATIVE)
            .chain(self.others.keys().map(String::as_str))
            .collect();
        DriverError::Unsupported(format!(
            "there is no sandbox maker {name:?} here, but {}; name it in the worker's [oci] table",
            known.join(", ")
        ))
    }
}

#[async_trait]
impl Driver for Choice {
    async fn start(&self, spec: SandboxSpec) -> Result<StartedSandbox, DriverError> {
        let name = spec.maker.as_deref().unwrap_or(&self.default);
        if name == NATIVE {
            return self.native.start(spec).await;
        }
        match self.others.get(name) {
            Some(other) => other.start(spec).await,
            None => Err(self.unknown(name)),
        }
    }

    async fn prepare(&self, spec: SandboxSpec) -> Result<Box<dyn Prepared>, DriverError> {
        self.native.prepare(spec).await
    }

    fn can_prepare(&self) -> bool {
        self.default == NATIVE && self.native.can_prepare()
    }

    fn diagnose(&self) -> Vec<Diagnosis> {
        self.native.diagnose()
    }

    async fn shutdown(&self) {
        // The sandboxes of the others end with their controls, which the worker has dropped by now.
        self.native.shutdown().await;
    }
}
