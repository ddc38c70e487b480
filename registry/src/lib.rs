//! Container images from registries (OCI distribution specification 1.1, Docker's token authentication): a reference becomes a
//! digest, a digest becomes bytes. Whatever a registry gives is verified by its digest. What a manifest means is
//! `hearth_core::image`'s; unpacking is the worker's.

mod challenge;
mod client;
mod credentials;
mod error;
mod options;
mod pull;
#[cfg(test)]
mod tests;

pub use client::Registry;
pub use error::RegistryError;
pub use options::{RegistryOptions, RegistryOptionsError};
pub use pull::Image;
