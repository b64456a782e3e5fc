//! End-to-end and integration tests: one binary, one module per subject.
