//! The code cache.
