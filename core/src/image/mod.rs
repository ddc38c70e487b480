//! Container images: what a reference names, which manifest is meant, what is run. Asking registries and unpacking are not here.

/// AWS's refusal of an image for a function of archives.
pub const IMAGE_FOR_ZIP: &str =
    "Please don't provide ImageUri when updating a function with packageType Zip.";
/// AWS's refusal of an archive for a function of images.
pub const ZIP_FOR_IMAGE: &str =
    "Please provide ImageUri when updating a function with packageType Image.";

/// AWS's refusal of what only functions of archives have.
pub const NOT_FOR_IMAGES: &str = "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image.";

pub mod manifest;
pub mod process;
pub mod reference;

pub use manifest::{Descriptor, ImageFile, Manifest, ManifestError};
pub use process::{Overrides, Process};
pub use reference::{Reference, ReferenceError};
