//! The extensions of one sandbox: who is registered, who is ready, which event goes to whom. Pure: identifiers and times
//! are arguments, and who waits for an answer is the owner's matter. How a sandbox with extensions ends is in
//! [`shutdown`].
//!
//! ```text
//!  Started --register--> Registered --next--> Ready --INVOKE, SHUTDOWN--> Running
//!     |                   |     |               ^                            |
//!     | cannot be         |     | init/error    +------------next------------+
//!     | executed          |     v
//!     v                   |   InitError          exit/error: from Registered, Ready and Running to ExitError
//!  LaunchError            +-> ExitError          the process ends: from anywhere to Exited
//! ```
//!
//! Names of states, types and texts of errors are those of AWS's own runtime interface, as programs print and parse them.

pub mod shutdown;

use std::fmt;

/// "You can register up to 10 extensions for a function" (AWS Lambda developer guide, Extensions API).
pub const EXTENSIONS_MAX: usize = 10;

/// The longest name of an extension. Ours: that of a file.
const NAME_MAX_BYTES: usize = 255;

/// Where an extension runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A process of its own, from `/opt/extensions`.
    External,
    /// Within the runtime's process.
    Internal,
}

/// Where an extension stands; shown as AWS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its process runs.
    Started,
    /// It has registered.
    Registered,
    /// It waits for an event.
    Ready,
    /// It has an event.
    Running,
    /// It said that it cannot work.
    InitError,
    /// It said that it will exit.
    ExitError,
    /// Its process is gone.
    Exited,
    /// Its program could not be executed.
    LaunchError,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The file's name, or what an internal one calls itself.
    pub name: String,
    /// What it shows with each request, a UUID.
    pub identifier: String,
    /// Where it runs.
    pub kind: Kind,
    /// Where it stands.
    pub state: State,
    /// Whether it is sent every invocation.
    pub invoke: bool,
    /// Whether it is told of the end. External ones only.
    pub shutdown: bool,
    /// What it posted as its error's type.
    pub error_type: Option<String>,
    /// It has had its SHUTDOWN.
    is_told: bool,
}

impl Extension {
    fn new(name: String, identifier: String, kind: Kind) -> Self {
        Self {
            name,
            identifier,
            kind,
            state: State::Started,
            invoke: false,
            shutdown: false,
            error_type: None,
            is_told: false,
        }
    }

    /// Its subscriptions, as AWS names them.
    pub fn events(&self) -> Vec<&'static str> {
        let wanted = [(self.invoke, "INVOKE"), (self.shutdown, "SHUTDOWN")];
        wanted
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, name)| *name)
            .collect()
    }

    /// Whether its process may still do something.
    fn is_alive(&self) -> bool {
        !matches!(self.state, State::Exited | State::LaunchError)
    }
}

/// When the permit of an invocation is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitBack {
    /// With the runtime's answer.
    WithAnswer,
    /// When the runtime and every extension wait for the next event, or never will.
    WhenReady,
}

/// AWS counts an environment as in use until the runtime and all extensions have signalled completion by asking for
/// their next event. Where the runtime is alone its answer is as good: the next invocation waits in the same sandbox for
/// that request, so that no more than the limit are at work.
pub fn permit_back(extensions: Option<&Extensions>) -> PermitBack {
    match extensions {
        None => PermitBack::WithAnswer,
        Some(_) => PermitBack::WhenReady,
    }
}

/// Why a request of an extension is refused, with 403 and AWS's type and text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No name, or one that is too long.
    #[error("Empty extension name")]
    InvalidName,
    /// Subscribes to what there is not.
    #[error("{event}: {why}")]
    InvalidEventType {
        /// As asked for.
        event: String,
        /// AWS's word for what is wrong with it.
        why: &'static str,
    },
    /// The init phase is over.
    #[error("Extension registration closed already")]
    RegistrationClosed,
    /// Another internal one has the name.
    #[error("Extension with this name already registered")]
    NameTaken,
    /// Ten there are.
    #[error("Extension limit ({EXTENSIONS_MAX}) reached")]
    TooMany,
    /// No extension has the identifier.
    #[error("Unknown extension {0}")]
    Unknown(String),
    /// Not in this state.
    #[error(
        "State transition from {from} to {to} failed for extension {who}. Error: State transition is not allowed"
    )]
    InvalidState {
        /// The state, unchanged.
        from: State,
        /// What was asked for.
        to: State,
        /// Name or identifier.
        who: String,
    },
}

impl Refusal {
    /// AWS's type of the error.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::InvalidName => "Extension.InvalidExtensionName",
            Self::InvalidEventType { .. } => "Extension.InvalidEventType",
            Self::RegistrationClosed => "Extension.RegistrationClosed",
            Self::TooMany => "Extension.TooManyExtensions",
            Self::Unknown(_) => "Extension.UnknownExtensionIdentifier",
            Self::NameTaken | Self::InvalidState { .. } => "Extension.InvalidExtensionState",
        }
    }
}

/// How an extension took its sandbox down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It exited, or was killed, unasked.
    Crash,
    /// It posted to `/init/error` and exited.
    InitError,
    /// It posted to `/exit/error` and exited.
    ExitError,
    /// Its program could not be executed.
    LaunchError,
}

impl Failure {
    /// AWS's name of it.
    pub fn error_type(self) -> &'static str {
        match self {
            Self::Crash => "Extension.Crash",
            Self::InitError => "Extension.InitError",
            Self::ExitError => "Extension.ExitError",
            Self::LaunchError => "Extension.LaunchError",
        }
    }
}

/// All extensions of one sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    list: Vec<Extension>,
    /// The runtime has asked for an event once: nobody registers any more.
    is_closed: bool,
    /// The runtime waits for an event.
    is_runtime_ready: bool,
}

impl Extensions {
    /// Those whose processes are started with the sandbox: names and identifiers.
    pub fn external(names: impl IntoIterator<Item = (String, String)>) -> Self {
        let external = |(name, identifier)| Extension::new(name, identifier, Kind::External);
        Self {
            list: names.into_iter().map(external).collect(),
            ..Self::default()
        }
    }

    /// All of them; their places never change.
    pub fn list(&self) -> &[Extension] {
        &self.list
    }

    /// `POST /register`. Returns its place; `identifier` is for one that is internal and new.
    pub fn register(
        &mut self,
        name: &str,
        events: &[String],
        identifier: String,
    ) -> Result<usize, Refusal> {
        if name.is_empty() || name.len() > NAME_MAX_BYTES {
            return Err(Refusal::InvalidName);
        }
        let found = self
            .list
            .iter()
            .position(|e| e.name == name && e.kind == Kind::External);
        let kind = if found.is_some() {
            Kind::External
        } else {
            Kind::Internal
        };
        check_events(events, kind)?;
        let place = match found {
            Some(place) => place,
            None => self.add_internal(name, identifier)?,
        };
        let extension = &mut self.list[place];
        if extension.state != State::Started {
            return Err(not_allowed(extension, State::Registered, name));
        }
        extension.state = State::Registered;
        extension.invoke = events.iter().any(|event| event == "INVOKE");
        extension.shutdown = events.iter().any(|event| event == "SHUTDOWN");
        Ok(place)
    }

    fn add_internal(&mut self, name: &str, identifier: String) -> Result<usize, Refusal> {
        if self.is_closed {
            return Err(Refusal::RegistrationClosed);
        }
        if self.list.len() >= EXTENSIONS_MAX {
            return Err(Refusal::TooMany);
        }
        if self.list.iter().any(|extension| extension.name == name) {
            return Err(Refusal::NameTaken);
        }
        self.list
            .push(Extension::new(name.to_owned(), identifier, Kind::Internal));
        Ok(self.list.len() - 1)
    }

    /// Whether the runtime may start: "Extension init" comes before "Runtime init".
    pub fn is_registered(&self) -> bool {
        self.list
            .iter()
            .all(|extension| extension.state != State::Started)
    }

    /// Whose identifier this is.
    pub fn find(&self, identifier: &str) -> Result<usize, Refusal> {
        let place = self
            .list
            .iter()
            .position(|extension| extension.identifier == identifier);
        place.ok_or_else(|| Refusal::Unknown(identifier.to_owned()))
    }

    /// `GET /event/next`: it has done what it had to do.
    pub fn next(&mut self, identifier: &str) -> Result<usize, Refusal> {
        let place = self.find(identifier)?;
        let extension = &mut self.list[place];
        match extension.state {
            State::Registered | State::Running => {
                extension.state = State::Ready;
                Ok(place)
            }
            State::Started
            | State::Ready
            | State::InitError
            | State::ExitError
            | State::Exited
            | State::LaunchError => Err(not_allowed(extension, State::Ready, identifier)),
        }
    }

    /// `POST /init/error`.
    pub fn init_error(&mut self, identifier: &str, error_type: &str) -> Result<(), Refusal> {
        self.error(identifier, error_type, State::InitError, |state| {
            matches!(state, State::Registered | State::InitError)
        })
    }

    /// `POST /exit/error`.
    pub fn exit_error(&mut self, identifier: &str, error_type: &str) -> Result<(), Refusal> {
        self.error(identifier, error_type, State::ExitError, |state| {
            matches!(
                state,
                State::Registered | State::Ready | State::Running | State::ExitError
            )
        })
    }

    fn error(
        &mut self,
        identifier: &str,
        error_type: &str,
        to: State,
        is_allowed: impl FnOnce(State) -> bool,
    ) -> Result<(), Refusal> {
        let place = self.find(identifier)?;
        let extension = &mut self.list[place];
        if !is_allowed(extension.state) {
            return Err(not_allowed(extension, to, identifier));
        }
        // The first error stays.
        if extension.state != to {
            extension.state = to;
            extension.error_type = Some(error_type.to_owned());
        }
        Ok(())
    }

    /// The runtime asked for an event.
    pub fn on_runtime_next(&mut self) {
        self.is_closed = true;
        self.is_runtime_ready = true;
    }

    /// "The Init phase ends when the runtime and all extensions indicate that they are ready by sending a Next API
    /// request", and the Invoke phase likewise.
    pub fn is_ready(&self) -> bool {
        self.is_runtime_ready
            && self
                .list
                .iter()
                .all(|extension| extension.state == State::Ready)
    }

    /// An invocation goes to the runtime; back come the places of those it goes to as well.
    pub fn on_invoke(&mut self) -> Vec<usize> {
        self.is_runtime_ready = false;
        self.send(|extension| extension.invoke)
    }

    /// The end is near; back come the places of those that wait and are told of it now. Those that are still at work are
    /// told when they ask: [`Extensions::is_told_of_end`].
    pub fn on_shutdown(&mut self) -> Vec<usize> {
        let places = self.send(|extension| extension.shutdown);
        for place in &places {
            self.list[*place].is_told = true;
        }
        places
    }

    /// Whether it wants to know of the end and does not yet. Call it after [`Extensions::next`]; it then has the event.
    /// One that asks again has nothing more to come.
    pub fn is_told_of_end(&mut self, place: usize) -> bool {
        let extension = &mut self.list[place];
        let is_news = extension.shutdown && !std::mem::replace(&mut extension.is_told, true);
        if is_news {
            extension.state = State::Running;
        }
        is_news
    }

    fn send(&mut self, is_wanted: impl Fn(&Extension) -> bool) -> Vec<usize> {
        let mut places = Vec::new();
        for (place, extension) in self.list.iter_mut().enumerate() {
            if extension.state == State::Ready && is_wanted(extension) {
                extension.state = State::Running;
                places.push(place);
            }
        }
        places
    }

    /// The process of an external one is gone.
    pub fn on_exit(&mut self, place: usize) -> Failure {
        let Some(extension) = self.list.get_mut(place) else {
            return Failure::Crash;
        };
        let before = std::mem::replace(&mut extension.state, State::Exited);
        match before {
            State::InitError => Failure::InitError,
            State::ExitError => Failure::ExitError,
            State::LaunchError => {
                extension.state = before;
                Failure::LaunchError
            }
            State::Started | State::Registered | State::Ready | State::Running | State::Exited => {
                Failure::Crash
            }
        }
    }

    /// Its program could not be executed.
    pub fn on_launch_error(&mut self, place: usize) {
        if let Some(extension) = self.list.get_mut(place) {
            extension.state = State::LaunchError;
        }
    }

    /// Whether nobody is left to finish what it was told to.
    pub fn is_over(&self) -> bool {
        !self
            .list
            .iter()
            .any(|extension| extension.shutdown && extension.is_alive())
    }

    /// What there is, for the time the end may take: none, internal ones only, or external ones.
    pub fn presence(&self) -> shutdown::Presence {
        if self
            .list
            .iter()
            .any(|extension| extension.kind == Kind::External)
        {
            shutdown::Presence::External
        } else if self.list.is_empty() {
            shutdown::Presence::Nobody
        } else {
            shutdown::Presence::Internal
        }
    }
}

fn not_allowed(extension: &Extension, to: State, who: &str) -> Refusal {
    Refusal::InvalidState {
        from: extension.state,
        to,
        who: who.to_owned(),
    }
}

fn check_events(events: &[String], kind: Kind) -> Result<(), Refusal> {
    for event in events {
        let why = match (event.as_str(), kind) {
            ("INVOKE", _) | ("SHUTDOWN", Kind::External) => continue,
            ("SHUTDOWN", Kind::Internal) => "ShutdownEventNotSupportedForInternalExtension",
            _ => "ErrorInvalidEventType",
        };
        return Err(Refusal::InvalidEventType {
            event: event.clone(),
            why,
        });
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
