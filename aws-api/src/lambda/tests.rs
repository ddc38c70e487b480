//! Tests over the whole model.
