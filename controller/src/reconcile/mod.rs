//! From what was asked for to what is: functions that are new or being changed are prepared on workers, and
//! settled by what the workers say; provisioned concurrency is spread over workers (`provision`). `plan` decides, `observed` is what workers reported, `execute` carries out.

pub(crate) mod execute;
pub(crate) mod observed;
pub(crate) mod plan;
pub(crate) mod provision;
