//! The import table of the design, checked against the source.
