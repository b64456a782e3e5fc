//! The `warpsquad` command.
fn main() {}
