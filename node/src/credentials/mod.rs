//! Temporary credentials, as who makes them and who reads them know them: what is in a session's token, and how it is sealed. Gateways
//! make those of AssumeRole, controllers those of functions' roles, and gateways read both.
//!
//! Not here: who may have which, and what one may do with them.

mod session;
mod vault;

pub use session::{Issued, Session, Whose, new_key_id, new_secret};
pub use vault::{Vault, session_key};
