//! The keeper as a real process: jobs, terminals, deaths of every kind, doors.

mod deaths;
mod doors;
mod forks;
mod jobs;
mod squad;
mod terminals;
mod upgrades;
