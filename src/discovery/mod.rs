//! Discovery: looks at each endpoint again and again and reports what it saw.
//!
//! A look asks for version, installed and loaded models. An endpoint that cannot be asked is
//! `unknown` with the reason, keeps the models last seen, and is tried again with growing, jittered
//! pauses. With no work and no client the loops rest: no timer runs until the pace changes or a
//! look is asked for.
//!
//! Architecture invariant: decides nothing; reports go to whoever owns the catalogue.

mod look;
mod measure;
mod watch;

pub use look::Looker;
pub use measure::{MeasureError, Subject, measure};
pub use watch::{Controls, Discovery, EndpointReport, Pace};
