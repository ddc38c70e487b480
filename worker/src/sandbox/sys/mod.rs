//! Thin safe wrappers over the system calls that neither std nor nix wraps safely; the only `unsafe` of Hearth.
//!
//! Each function does one system call and decides nothing. Callers: [`super::native`].

pub(crate) mod block;
pub(crate) mod mount;
pub(crate) mod net;
pub(crate) mod process;
