//! Sandboxes: the seam ([`driver`]), the native Linux driver ([`native`]), OCI runtimes ([`oci`]), who of them is asked
//! ([`choice`]), and a scripted driver for simulation ([`fake`]).
//!
//! What runs *inside* a sandbox (Runtime API, code, runtime packs) and when one is made (pool) live elsewhere.

pub mod choice;
pub mod driver;
pub mod fake;
pub mod native;
pub mod oci;
#[expect(
    unsafe_code,
    reason = "system calls without a safe wrapper; see the SAFETY comments"
)]
mod sys;
