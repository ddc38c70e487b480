//! The form of the generated constraint tables. What is done with them is in `validate` and
//! `protocol`.

use std::sync::OnceLock;

use regex::Regex;

/// One shape of a service model.
#[derive(Debug)]
pub struct Shape {
    pub name: &'static str,
    /// Values are never shown in a message.
    pub sensitive: bool,
    pub kind: Kind,
}

/// What a shape is and the bounds its values keep. Bounds are inclusive; on strings they count
/// characters, on blobs bytes, on collections elements.
#[derive(Debug)]
pub enum Kind {
    Structure {
        members: &'static [Member],
    },
    List {
        member: &'static Shape,
        min: Option<i64>,
        max: Option<i64>,
    },
    Map {
        key: &'static Shape,
        value: &'static Shape,
        min: Option<i64>,
        max: Option<i64>,
    },
    String {
        min: Option<i64>,
        max: Option<i64>,
        pattern: Option<&'static Pattern>,
        /// Allowed values, empty for a string that is no enum.
        values: &'static [&'static str],
    },
    Integer {
        min: Option<i64>,
        max: Option<i64>,
    },
    Long {
        min: Option<i64>,
        max: Option<i64>,
    },
    Double {
        min: Option<f64>,
        max: Option<f64>,
    },
    Boolean,
    Blob {
        min: Option<i64>,
        max: Option<i64>,
    },
    Timestamp,
}

/// A member of a structure.
#[derive(Debug)]
pub struct Member {
    pub name: &'static str,
    pub shape: &'static Shape,
    pub required: bool,
    pub location: Location,
}

impl Member {
    pub(crate) const fn new(
        name: &'static str,
        shape: &'static Shape,
        required: bool,
        location: Location,
    ) -> Self {
        Self {
            name,
            shape,
            required,
            location,
        }
    }
}

/// Where a member travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// A member of the JSON body.
    Body,
    /// A header, by its lower-case name.
    Header(&'static str),
    /// The whole body.
    Payload,
    /// A query parameter.
    Query(&'static str),
    /// The status of the response.
    StatusCode,
    /// A label of the path.
    Uri(&'static str),
}

impl Shape {
    /// The members of a structure, none for any other shape.
    pub fn members(&self) -> &'static [Member] {
        match self.kind {
            Kind::Structure { members } => members,
            Kind::List { .. }
            | Kind::Map { .. }
            | Kind::String { .. }
            | Kind::Integer { .. }
            | Kind::Long { .. }
            | Kind::Double { .. }
            | Kind::Boolean
            | Kind::Blob { .. }
            | Kind::Timestamp => &[],
        }
    }

    /// The member that is the body as it is, if the structure has one.
    pub fn raw_payload(&self) -> Option<&'static Member> {
        self.members().iter().find(|member| {
            member.location == Location::Payload && matches!(member.shape.kind, Kind::Blob { .. })
        })
    }
}

/// A regular expression that a whole value has to match.
#[derive(Debug)]
pub struct Pattern {
    /// The model's text, which messages show.
    pub java: &'static str,
    pub(crate) regex: &'static str,
    unless: Option<&'static str>,
    compiled: OnceLock<(Regex, Option<Regex>)>,
}

impl Pattern {
    pub(crate) const fn new(
        java: &'static str,
        regex: &'static str,
        unless: Option<&'static str>,
    ) -> Self {
        Self {
            java,
            regex,
            unless,
            compiled: OnceLock::new(),
        }
    }

    /// Java's `matches()`: the whole value, not a part of it.
    pub fn matches(&self, value: &str) -> bool {
        let (regex, unless) = self.compiled.get_or_init(|| {
            let whole = |text: &str| {
                Regex::new(&format!(r"\A(?:{text})\z"))
                    .expect("the generator wrote the pattern and a test compiles all of them")
            };
            (whole(self.regex), self.unless.map(whole))
        });
        regex.is_match(value) && !unless.as_ref().is_some_and(|u| u.is_match(value))
    }
}
