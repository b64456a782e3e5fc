//! Which beginnings of conversations a runner has read: what it need not read again.
//!
//! A runner keeps the key-value cache of its last prompts. A prompt that begins as one of them is
//! read from the point where they part; all of it is lost when the model is loaded again, so what
//! is remembered belongs to one epoch.
//!
//! Invariant: pure, bounded.

use std::collections::{BTreeMap, VecDeque};

use super::ask::Runner;
use crate::core::endpoint::EndpointName;
use crate::core::model::ModelName;

/// Prompts remembered for each runner: llama-server keeps some in host memory besides its slots.
const KEPT: usize = 16;
/// Runners remembered at most.
const MOST: usize = 256;
/// A common part below this share is not used (llama-server's slot similarity, 0.1).
const LEAST: f64 = 0.1;

/// Hashes of a prompt's parts, each over all before it, with the characters so far.
type Chain = Vec<(u64, u64)>;

/// All conversations remembered.
#[derive(Debug, Clone, Default)]
pub struct Conversations {
    by_runner: BTreeMap<(EndpointName, ModelName), Read>,
}

#[derive(Debug, Clone, Default)]
struct Read {
    epoch: u64,
    chains: VecDeque<Chain>,
}

impl Conversations {
    /// A runner has read a prompt.
    pub fn remember(&mut self, runner: &Runner, epoch: u64, chain: &[(u64, u64)]) {
        let key = (runner.endpoint.clone(), runner.model.clone());
        if self.by_runner.len() >= MOST && !self.by_runner.contains_key(&key) {
            self.by_runner.pop_first();
        }
        let read = self.by_runner.entry(key).or_default();
        if read.epoch != epoch {
            read.chains.clear();
            read.epoch = epoch;
        }
        // A conversation that went on takes the place of its beginning.
        read.chains.retain(|old| !chain.starts_with(old));
        read.chains.push_back(chain.to_vec());
        while read.chains.len() > KEPT {
            read.chains.pop_front();
        }
    }

    /// Share of a prompt, 0…1, that its runner has read in this epoch.
    pub fn hit(&self, runner: &Runner, epoch: u64, chain: &[(u64, u64)]) -> f64 {
        let key = (runner.endpoint.clone(), runner.model.clone());
        let Some(read) = self.by_runner.get(&key).filter(|it| it.epoch == epoch) else {
            return 0.0;
        };
        let Some((_, all)) = chain.last().filter(|(_, chars)| *chars > 0) else {
            return 0.0;
        };
        let common = read.chains.iter().map(|old| common_chars(old, chain));
        let share = common.max().unwrap_or(0) as f64 / *all as f64;
        if share < LEAST { 0.0 } else { share }
    }
}

fn common_chars(old: &[(u64, u64)], new: &[(u64, u64)]) -> u64 {
    let same = old.iter().zip(new).take_while(|(a, b)| a == b);
    same.last().map_or(0, |((_, chars), _)| *chars)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner() -> Runner {
        Runner {
            endpoint: "e".into(),
            model: "m".into(),
            context: 8_192,
        }
    }

    #[test]
    fn a_conversation_that_goes_on_is_mostly_read() {
        let mut conversations = Conversations::default();
        conversations.remember(&runner(), 1, &[(1, 50), (2, 90)]);
        let longer = [(1, 50), (2, 90), (3, 100)];
        assert!((conversations.hit(&runner(), 1, &longer) - 0.9).abs() < 1e-9);
        let other = [(1, 50), (9, 100)];
        assert!((conversations.hit(&runner(), 1, &other) - 0.5).abs() < 1e-9);
        assert!(conversations.hit(&runner(), 1, &[(7, 100)]).abs() < 1e-9);
    }

    #[test]
    fn a_load_forgets_everything() {
        let mut conversations = Conversations::default();
        conversations.remember(&runner(), 1, &[(1, 50)]);
        assert!(conversations.hit(&runner(), 2, &[(1, 50)]).abs() < 1e-9);
        conversations.remember(&runner(), 2, &[(5, 10)]);
        assert!(conversations.hit(&runner(), 2, &[(1, 50)]).abs() < 1e-9);
    }

    #[test]
    fn they_are_bounded_and_a_beginning_gives_way_to_what_follows_it() {
        let mut conversations = Conversations::default();
        for part in 0..100 {
            conversations.remember(&runner(), 1, &[(part, 10)]);
        }
        conversations.remember(&runner(), 1, &[(99, 10), (7, 20)]);
        let read = conversations.by_runner.values().next().unwrap();
        assert_eq!(read.chains.len(), KEPT);
        assert_eq!(read.chains.back().unwrap().len(), 2);
    }
}
