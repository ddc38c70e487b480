//! Sandboxes: the seam ([`driver`]), the native Linux driver ([`native`]) and a scripted one for simulation ([`fake`]).
//!
//! What runs *inside* a sandbox (Runtime API, code, runtime packs) and when one is made (pool) live elsewhere.

pub mod driver;
pub mod fake;
pub mod native;
#[expect(
    unsafe_code,
    reason = "system calls without a safe wrapper; see the SAFETY comments"
)]
mod sys;
