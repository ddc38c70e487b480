//! Conditions joined by `&&` and `||`: "Compound expressions support the use of parentheses ("()") and the following standard
//! order of operations: () > && > ||."

use super::scanner::Scanner;
use super::{DEPTH_MAX, PatternError};

/// Conditions and how they are joined.
#[derive(Clone, Debug)]
pub(super) enum Expression<T> {
    /// One.
    Is(T),
    /// `&&`, at least two.
    All(Vec<Self>),
    /// `||`, at least two.
    Any(Vec<Self>),
}

/// Reads one condition.
type Leaf<'l, 'a, T> = &'l mut dyn FnMut(&mut Scanner<'a>) -> Result<T, PatternError>;

impl<T> Expression<T> {
    /// Reads as much as belongs together.
    pub(super) fn parse<'a>(
        scanner: &mut Scanner<'a>,
        leaf: Leaf<'_, 'a, T>,
    ) -> Result<Self, PatternError> {
        Self::any(scanner, 0, leaf)
    }

    fn any<'a>(
        scanner: &mut Scanner<'a>,
        depth: usize,
        leaf: Leaf<'_, 'a, T>,
    ) -> Result<Self, PatternError> {
        let first = Self::all(scanner, depth, leaf)?;
        let mut parts = vec![first];
        while scanner.skip_blanks() && scanner.eat("||") {
            parts.push(Self::all(scanner, depth, leaf)?);
        }
        Ok(Self::joined(parts, Self::Any))
    }

    fn all<'a>(
        scanner: &mut Scanner<'a>,
        depth: usize,
        leaf: Leaf<'_, 'a, T>,
    ) -> Result<Self, PatternError> {
        let first = Self::unit(scanner, depth, leaf)?;
        let mut parts = vec![first];
        while scanner.skip_blanks() && scanner.eat("&&") {
            parts.push(Self::unit(scanner, depth, leaf)?);
        }
        Ok(Self::joined(parts, Self::All))
    }

    fn unit<'a>(
        scanner: &mut Scanner<'a>,
        depth: usize,
        leaf: Leaf<'_, 'a, T>,
    ) -> Result<Self, PatternError> {
        scanner.skip_blanks();
        if !scanner.eat("(") {
            scanner.count_term()?;
            return leaf(scanner).map(Self::Is);
        }
        if depth == DEPTH_MAX {
            return Err(PatternError::Deep);
        }
        let inner = Self::any(scanner, depth + 1, leaf)?;
        scanner.skip_blanks();
        scanner.need(")")?;
        Ok(inner)
    }

    fn joined(mut parts: Vec<Self>, join: fn(Vec<Self>) -> Self) -> Self {
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                join(parts)
            }
        }
    }

    /// Whether it holds where single conditions hold as told.
    pub(super) fn holds(&self, is: &impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Is(leaf) => is(leaf),
            Self::All(parts) => parts.iter().all(|part| part.holds(is)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(is)),
        }
    }
}
