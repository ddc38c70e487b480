//! Pictures and changes of the catalog.
