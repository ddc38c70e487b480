//! worker

pub mod sandbox;
