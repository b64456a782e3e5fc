//! The keeper as a real process: jobs, terminals, deaths of every kind, doors.

#[cfg(target_os = "linux")]
mod cgroups;
mod deaths;
mod doors;
mod forks;
mod jobs;
mod squad;
mod terminals;
mod upgrades;
