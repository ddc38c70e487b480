//! Text with wildcards and variables: `arn:aws:s3:::b/${aws:username}/*`.

use super::Request;

/// One character of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Glyph {
    /// Any text.
    Any,
    /// Any one character.
    One,
    /// This one.
    Is(char),
}

/// A pattern whose variables are filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Glyph>);

impl Pattern {
    /// With wildcards; variables are filled in if there are to be any. `None` if the request has no value for one of them:
    /// "the entire statement is invalid", so it matches nothing.
    pub(super) fn new(text: &str, request: &Request<'_>, has_variables: bool) -> Option<Self> {
        Self::read(text, request, has_variables, glyph)
    }

    /// As [`Self::new`], without wildcards.
    pub(super) fn exact(text: &str, request: &Request<'_>, has_variables: bool) -> Option<Self> {
        Self::read(text, request, has_variables, Glyph::Is)
    }

    /// Of an action, to be compared in lower case.
    pub(super) fn of_action(text: &str) -> Self {
        Self(text.to_ascii_lowercase().chars().map(glyph).collect())
    }

    /// In lower case, as far as ASCII goes.
    pub(super) fn in_lower_case(self) -> Self {
        let lower = |glyph| match glyph {
            Glyph::Is(c) => Glyph::Is(c.to_ascii_lowercase()),
            Glyph::Any | Glyph::One => glyph,
        };
        Self(self.0.into_iter().map(lower).collect())
    }

    fn read(
        text: &str,
        request: &Request<'_>,
        has_variables: bool,
        glyph: fn(char) -> Glyph,
    ) -> Option<Self> {
        let mut glyphs = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${").filter(|_| has_variables) {
            let (name, behind) = after.split_once('}')?;
            glyphs.extend(before.chars().map(glyph));
            glyphs.extend(value(name, request)?.chars().map(Glyph::Is));
            rest = behind;
        }
        glyphs.extend(rest.chars().map(glyph));
        Some(Self(glyphs))
    }

    /// Its parts between colons, at most `parts`; the last one holds all that follows.
    pub(super) fn parts(&self, parts: usize) -> Vec<Self> {
        let split = self.0.splitn(parts, |glyph| *glyph == Glyph::Is(':'));
        split.map(|part| Self(part.to_vec())).collect()
    }

    /// Whether all of the text is as the pattern says.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (&self.0, text.chars().collect::<Vec<char>>());
        let (mut p, mut t) = (0, 0);
        // Where the last star was, and how much of the text it has taken.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(Glyph::Any) => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(Glyph::One) => {
                    p += 1;
                    t += 1;
                }
                Some(Glyph::Is(c)) if *c == text[t] => {
                    p += 1;
                    t += 1;
                }
                Some(Glyph::Is(_)) | None => {
                    let Some((at, taken)) = star else {
                        return false;
                    };
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
            }
        }
        pattern[p..].iter().all(|glyph| *glyph == Glyph::Any)
    }
}

fn glyph(c: char) -> Glyph {
    match c {
        '*' => Glyph::Any,
        '?' => Glyph::One,
        c => Glyph::Is(c),
    }
}

/// `aws:username`, `aws:username, 'nobody'`, or one of `*`, `?` and `$`, which stand for themselves.
fn value<'a>(name: &'a str, request: &Request<'a>) -> Option<&'a str> {
    if matches!(name, "*" | "?" | "$") {
        return Some(name);
    }
    let (name, default) = match name.split_once(',') {
        Some((name, default)) => {
            let default = default.trim().strip_prefix('\'');
            (
                name.trim(),
                default.and_then(|text| text.strip_suffix('\'')),
            )
        }
        None => (name, None),
    };
    request.variable(name).or(default)
}
