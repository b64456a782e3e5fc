//! How well something is: an agent, the squad.
//!
//! Invariant: pure; what cannot be known is `Unknown`, never a guess.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How well something is, from best to worst.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", content = "why", rename_all = "kebab-case")]
pub enum Health {
    /// Nothing is wrong.
    Ok,
    /// Not looked yet, or it does not say.
    #[default]
    Unknown,
    /// It works, but not as it should.
    Degraded(String),
    /// It does not work.
    Down(String),
}

impl Health {
    /// The word alone.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Degraded(_) => "degraded",
            Self::Down(_) => "down",
        }
    }

    /// What is wrong, if something is.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Ok | Self::Unknown => None,
            Self::Degraded(why) | Self::Down(why) => Some(why),
        }
    }

    /// The worse of two; of two equally bad ones the first.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if other.rank() > self.rank() {
            other
        } else {
            self
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unknown => 1,
            Self::Degraded(_) => 2,
            Self::Down(_) => 3,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why() {
            None => f.pad(self.word()),
            Some(why) => write!(f, "{} ({why})", self.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_wins_and_of_two_equals_the_first() {
        let bad = |why: &str| Health::Degraded(why.into());
        assert_eq!(Health::Ok.worse(Health::Unknown), Health::Unknown);
        assert_eq!(bad("a").worse(bad("b")), bad("a"));
        assert_eq!(
            bad("a").worse(Health::Down("b".into())),
            Health::Down("b".into())
        );
        assert_eq!(bad("a").worse(Health::Ok), bad("a"));
    }

    #[test]
    fn it_is_said_and_written_with_its_reason() {
        let health = Health::Degraded("slow".into());
        assert_eq!(health.to_string(), "degraded (slow)");
        let json = serde_json::to_string(&health).unwrap();
        assert_eq!(json, r#"{"state":"degraded","why":"slow"}"#);
        assert_eq!(
            serde_json::to_string(&Health::Ok).unwrap(),
            r#"{"state":"ok"}"#
        );
        let back: Health = serde_json::from_str(r#"{"state":"unknown"}"#).unwrap();
        assert_eq!(back, Health::Unknown);
    }
}
