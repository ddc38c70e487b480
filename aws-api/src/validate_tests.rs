//! Tests of the validator on hand-picked members; `lambda::tests` breaks every constraint there is.
