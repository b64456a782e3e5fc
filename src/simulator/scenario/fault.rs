//! `[[fault]]` of a scenario: what goes wrong, and when.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::simulator::units::optional_duration;

/// `[[fault]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::simulator) struct FaultSpec {
    /// What.
    pub(in crate::simulator) kind: FaultKind,
    /// Only this model.
    #[serde(default)]
    pub(in crate::simulator) model: Option<String>,
    /// Only requests to this path; all requests for an answer when missing.
    #[serde(default)]
    pub(in crate::simulator) path: Option<String>,
    /// Only requests that contain this text.
    #[serde(default)]
    pub(in crate::simulator) prompt: Option<String>,
    /// Only the nth match, counted from 1.
    #[serde(default)]
    pub(in crate::simulator) nth: Option<u64>,
    /// Only every nth match, or: the window comes again after this time.
    #[serde(default)]
    pub(in crate::simulator) every: Option<Every>,
    /// Only this share of matches.
    #[serde(default)]
    pub(in crate::simulator) probability: Option<f64>,
    /// At most so many times.
    #[serde(default)]
    pub(in crate::simulator) times: Option<u64>,
    /// Only from this time after the server's start.
    #[serde(default, deserialize_with = "optional_duration")]
    pub(in crate::simulator) from: Option<Duration>,
    /// Only until this time.
    #[serde(default, deserialize_with = "optional_duration")]
    pub(in crate::simulator) until: Option<Duration>,
    /// Tokens before it happens.
    #[serde(default)]
    pub(in crate::simulator) after: usize,
    /// HTTP status, for `status`.
    #[serde(default = "FaultSpec::default_status")]
    pub(in crate::simulator) status: u16,
    /// Error text.
    #[serde(default)]
    pub(in crate::simulator) message: Option<String>,
    /// `Retry-After` in seconds, for `status`.
    #[serde(default)]
    pub(in crate::simulator) retry_after: Option<u64>,
    /// Where to sign in, for `status` of a cloud model.
    #[serde(default)]
    pub(in crate::simulator) signin_url: Option<String>,
    /// How long it takes.
    #[serde(default, alias = "load_time", deserialize_with = "optional_duration")]
    pub(in crate::simulator) duration: Option<Duration>,
    /// New digest, for `repointed`.
    #[serde(default)]
    pub(in crate::simulator) digest: Option<String>,
}

/// `every`: a number of matches, or a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::simulator) enum Every {
    Matches(u64),
    Period(Duration),
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Read {
            Number(u64),
            Text(String),
        }
        match Read::deserialize(deserializer)? {
            Read::Number(number) => Ok(Self::Matches(number)),
            Read::Text(text) => humantime::parse_duration(&text)
                .map(Self::Period)
                .map_err(serde::de::Error::custom),
        }
    }
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::simulator) enum FaultKind {
    /// An error status instead of an answer.
    Status,
    /// 503 in Ollama's words, at once.
    Busy,
    /// The connection is closed without an answer.
    Refuse,
    /// The server is gone for a while and comes back without its state.
    Down,
    /// 500 while waiting for a slot.
    QueueError,
    /// The prompt is cut to half the context, whatever its length.
    Truncated,
    /// The prompt is refused as too long, whatever its length.
    Exceeded,
    /// No more bytes, connection open.
    Stall,
    /// The connection is cut in the middle of the answer.
    Cut,
    /// A last line with an error.
    ErrorLine,
    /// The runner dies: an error line, and the next request loads again.
    RunnerKilled,
    /// The runner has no memory left: an error line, and every model goes when it is idle.
    RunnerOom,
    /// A line that is no JSON, then the rest.
    MalformedLine,
    /// A clean end without a line with `done`.
    NoDone,
    /// The same token again and again, until Ollama ends the answer.
    Repeat,
    /// An answer without text.
    Empty,
    /// All of the answer as thoughts.
    ThinkingOnly,
    /// A load that takes long.
    SlowLoad,
    /// A load that never gets on, until the server gives it up.
    StuckLoad,
    /// A load that fails.
    LoadError,
    /// A load for which the memory is too small.
    LoadOom,
    /// A load that lands on the processor.
    CpuOnly,
    /// An unload that takes long.
    SlowUnload,
    /// An unload that never ends.
    StuckUnload,
    /// `/api/ps` tells what was true before.
    PsLag,
    /// The model is gone.
    Removed,
    /// The name points to other weights.
    Repointed,
}

/// Where a fault is decided; matches are counted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulator) enum Stage {
    /// With a request for an answer.
    Request,
    /// With a load.
    Load,
    /// With an unload.
    Unload,
    /// With a look at `/api/ps`.
    Ps,
    /// What is installed.
    Catalogue,
}

impl FaultKind {
    pub(in crate::simulator) fn stage(self) -> Stage {
        match self {
            Self::SlowLoad | Self::StuckLoad | Self::LoadError | Self::LoadOom | Self::CpuOnly => {
                Stage::Load
            }
            Self::SlowUnload | Self::StuckUnload => Stage::Unload,
            Self::PsLag => Stage::Ps,
            Self::Removed | Self::Repointed => Stage::Catalogue,
            Self::Status
            | Self::Busy
            | Self::Refuse
            | Self::Down
            | Self::QueueError
            | Self::Truncated
            | Self::Exceeded
            | Self::Stall
            | Self::Cut
            | Self::ErrorLine
            | Self::RunnerKilled
            | Self::RunnerOom
            | Self::MalformedLine
            | Self::NoDone
            | Self::Repeat
            | Self::Empty
            | Self::ThinkingOnly => Stage::Request,
        }
    }
}

impl FaultSpec {
    fn default_status() -> u16 {
        500
    }

    /// Whether only time decides, no request.
    pub(in crate::simulator) fn is_timed(&self) -> bool {
        self.nth.is_none()
            && self.probability.is_none()
            && self.times.is_none()
            && self.path.is_none()
            && self.prompt.is_none()
            && !matches!(self.every, Some(Every::Matches(_)))
    }

    /// Whether the scenario's time `now` lies in the window.
    pub(in crate::simulator) fn is_open(&self, now: Duration) -> bool {
        let now = match self.every {
            Some(Every::Period(period)) => {
                let periods = (now.as_secs_f64() / period.as_secs_f64()).floor();
                now.saturating_sub(period.mul_f64(periods))
            }
            Some(Every::Matches(_)) | None => now,
        };
        self.from.is_none_or(|from| now >= from) && self.until.is_none_or(|until| now < until)
    }

    /// The windows of a fault that only time decides, the first that ends after `now`.
    pub(in crate::simulator) fn window(&self, now: Duration) -> Option<(Duration, Duration)> {
        let from = self.from.unwrap_or_default();
        let until = self.until?;
        match self.every {
            Some(Every::Period(period)) => {
                let mut shift = Duration::ZERO;
                while until + shift <= now {
                    shift += period;
                }
                Some((from + shift, until + shift))
            }
            Some(Every::Matches(_)) | None => (until > now).then_some((from, until)),
        }
    }

    /// What is wrong with it.
    pub(super) fn mistake(&self) -> Option<String> {
        if !(100..=599).contains(&self.status) {
            return Some("status must be from 100 to 599".into());
        }
        if self
            .probability
            .is_some_and(|share| !(0.0..=1.0).contains(&share))
        {
            return Some("probability must be from 0 to 1: 0.5 is every other match".into());
        }
        if self.every == Some(Every::Period(Duration::ZERO)) {
            return Some("every must be above 0".into());
        }
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from >= until
        {
            return Some("from must be before until".into());
        }
        if let (Some(Every::Period(period)), Some(until)) = (self.every, self.until)
            && until > period
        {
            return Some("until must not be after every".into());
        }
        let needs_model = matches!(self.kind, FaultKind::Removed | FaultKind::Repointed);
        if needs_model && self.model.is_none() {
            return Some("this kind needs a model".into());
        }
        if self.kind == FaultKind::Down && self.is_timed() && self.until.is_none() {
            return Some("this kind needs until, or a request that it comes with".into());
        }
        None
    }
}
