//! What hangs on functions: `core` says what a change makes of one function; here is what needs to be known of others.

use hearth_core::attached::{AttachedChange, Stamp};
use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::function::Function;
use hearth_core::limits::PUBLISHED_MAX_BYTES;

use super::command::Command;
use super::{Outcome, State, changed, done};

impl State {
    pub(super) fn change_attached(&mut self, index: u64, command: &Command) -> Result<Outcome> {
        let Command::ChangeAttached {
            account,
            name,
            change,
            revision_id,
            at,
        } = command
        else {
            return Ok(done());
        };
        let mut function = self.functions.find(&self.region, account, name)?.clone();
        self.check_attached(&function, change)?;
        let before = function.attached.metadata_bytes();
        let stamp = Stamp {
            region: &self.region,
            revision_id,
            at: *at,
        };
        function.attach(change, &stamp)?;
        check_size(&function, before)?;
        function.changed = index;
        let replace = |known: &mut Function| known.clone_from(&function);
        self.functions.edit(account, name, replace);
        Ok(changed(function))
    }

    /// What a change says of other things that have to be there.
    fn check_attached(&self, function: &Function, change: &AttachedChange) -> Result<()> {
        match change {
            AttachedChange::SetEventInvoke { members, .. } => {
                members.check(function.name.as_str(), |name| {
                    let name = name.parse().ok();
                    name.is_some_and(|name| {
                        self.functions.function(&function.account, &name).is_some()
                    })
                })
            }
            AttachedChange::SetCodeSigning { arn: Some(arn) } => {
                self.check_signing_exists(&function.account, arn)
            }
            AttachedChange::Permit { .. }
            | AttachedChange::Revoke { .. }
            | AttachedChange::SetPolicy { .. }
            | AttachedChange::DeleteEventInvoke { .. }
            | AttachedChange::CreateUrl { .. }
            | AttachedChange::UpdateUrl { .. }
            | AttachedChange::DeleteUrl { .. }
            | AttachedChange::SetRecursion { .. }
            | AttachedChange::SetRuntimeManagement { .. }
            | AttachedChange::SetCodeSigning { arn: None } => Ok(()),
        }
    }
}

/// A function travels whole, and what hangs on it too.
fn check_size(function: &Function, before: usize) -> Result<()> {
    let has_grown = function.attached.metadata_bytes() > before;
    let bytes = function.published_bytes() + function.latest.metadata_bytes();
    if has_grown && bytes > PUBLISHED_MAX_BYTES {
        return Err(Error::new(
            ErrorCode::PolicyTooLong,
            format!(
                "The function's versions, aliases and their policies take {bytes} bytes of metadata, at most {PUBLISHED_MAX_BYTES} are kept."
            ),
        ));
    }
    Ok(())
}
