//! A function as readers of the catalog are sent it: made once for a change, however many read it.

use std::sync::OnceLock;

use bytes::Bytes;
use hearth_core::function::Function;
use hearth_proto::convert::encode_function;

/// A function after a change.
#[derive(Debug)]
pub(crate) struct Document {
    function: Function,
    whole: OnceLock<Bytes>,
    bare: OnceLock<Bytes>,
}

impl Document {
    pub(crate) fn new(function: Function) -> Self {
        Self {
            function,
            whole: OnceLock::new(),
            bare: OnceLock::new(),
        }
    }

    /// As it is.
    pub(crate) fn whole(&self) -> Bytes {
        let encode = || encode_function(&self.function);
        self.whole.get_or_init(encode).clone()
    }

    /// Without environments, for who does not run it.
    pub(crate) fn bare(&self) -> Bytes {
        let encode = || encode_function(&without_environments(self.function.clone()));
        self.bare.get_or_init(encode).clone()
    }
}

fn without_environments(mut function: Function) -> Function {
    function.latest.config.environment = None;
    if let Some(serving) = &mut function.serving {
        serving.config.environment = None;
    }
    for version in function.versions.values_mut() {
        version.snapshot.config.environment = None;
    }
    function
}
