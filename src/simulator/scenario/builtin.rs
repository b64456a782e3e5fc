//! The scenarios that come with the program.

macro_rules! scenarios {
    ($($name:literal),* $(,)?) => {
        /// Built-in scenarios by name.
        pub(super) const BUILTIN: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../assets/scenarios/", $name, ".toml")))),*
        ];
    };
}

scenarios!(
    "default",
    "busy",
    "catalogue",
    "cloud",
    "contexts",
    "empty-answers",
    "failing-loads",
    "memory",
    "outages",
    "queues",
    "slow-disk",
    "stopping",
    "streams",
    "three-models-one-gpu",
);

/// Their names for a sentence.
pub(super) fn names() -> String {
    let names: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}
