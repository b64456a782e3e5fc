//! What a runner still has of earlier prompts: one in each slot, more in the machine's memory.
//!
//! llama-server gives a request the free slot whose content begins like the prompt, if more than
//! a tenth of the prompt is there, else the one that rested longest. A content that is replaced
//! goes to the host cache, and comes back from there when it serves a prompt better.
//!
//! Invariant: pure.

use std::collections::VecDeque;

/// Share of a prompt that must be there (llama-server's `--slot-prompt-similarity`).
const SIMILARITY: f64 = 0.10;

/// The contents of a runner's slots.
#[derive(Debug)]
pub(super) struct Prompts {
    slots: Vec<Content>,
    host: VecDeque<String>,
    budget: u64,
    bytes_per_char: f64,
    used: u64,
}

#[derive(Debug, Clone, Default)]
struct Content {
    text: String,
    is_taken: bool,
    used: u64,
}

/// A slot that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) index: usize,
    /// Characters of the prompt that need no evaluation.
    pub(super) cached: usize,
}

impl Prompts {
    /// `budget` is the host cache in bytes.
    pub(super) fn new(slots: usize, budget: u64, bytes_per_char: f64) -> Self {
        Self {
            slots: vec![Content::default(); slots.max(1)],
            host: VecDeque::new(),
            budget,
            bytes_per_char,
            used: 0,
        }
    }

    /// The slot for a prompt. There is a free one: whoever asks has a permit.
    pub(super) fn take(&mut self, prompt: &str) -> Taken {
        let free = self.slots.iter().enumerate().filter(|(_, s)| !s.is_taken);
        let likeness = free.map(|(index, slot)| (common(&slot.text, prompt), index, slot.used));
        let likeness: Vec<(usize, usize, u64)> = likeness.collect();
        let is_similar = |n: usize| n as f64 > prompt.len() as f64 * SIMILARITY;
        let best = likeness
            .iter()
            .max_by_key(|(n, index, _)| (*n, usize::MAX - *index));
        let chosen = match best {
            Some((n, index, _)) if is_similar(*n) => (*n, *index),
            _ => {
                let oldest = likeness
                    .iter()
                    .min_by_key(|(_, index, used)| (*used, *index));
                oldest.map_or((0, 0), |(n, index, _)| (*n, *index))
            }
        };
        let (in_slot, index) = chosen;
        let cached = self.swapped(prompt, index, in_slot);
        self.used += 1;
        if let Some(slot) = self.slots.get_mut(index) {
            slot.is_taken = true;
            slot.used = self.used;
        }
        Taken { index, cached }
    }

    /// The slot is free and holds this text.
    pub(super) fn give_back(&mut self, index: usize, text: String) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.is_taken = false;
            slot.text = text;
        }
    }

    /// Swaps the slot's content for a better one; what was in the slot is kept if it is worth it.
    fn swapped(&mut self, prompt: &str, index: usize, in_slot: usize) -> usize {
        let Some(slot) = self.slots.get_mut(index) else {
            return in_slot;
        };
        let is_replaced = in_slot < slot.text.len();
        let old = if is_replaced {
            slot.text.clone()
        } else {
            String::new()
        };
        let likeness = self.host.iter().map(|text| common(text, prompt));
        let best = likeness.enumerate().max_by_key(|(_, n)| *n);
        let cached = match best {
            Some((at, n)) if n > in_slot => {
                self.host.remove(at);
                n
            }
            _ => in_slot,
        };
        if !old.is_empty() {
            self.keep(old);
        }
        cached
    }

    fn keep(&mut self, text: String) {
        let bytes = |text: &String| text.len() as f64 * self.bytes_per_char;
        self.host.retain(|other| !text.starts_with(other.as_str()));
        self.host.push_back(text);
        let mut total: f64 = self.host.iter().map(bytes).sum();
        while total > self.budget as f64 {
            let Some(oldest) = self.host.pop_front() else {
                return;
            };
            total -= bytes(&oldest);
        }
    }
}

fn common(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cached(prompts: &mut Prompts, prompt: &str) -> usize {
        let taken = prompts.take(prompt);
        prompts.give_back(taken.index, prompt.to_owned());
        taken.cached
    }

    #[test]
    fn a_prompt_that_goes_on_finds_its_beginning() {
        let mut prompts = Prompts::new(1, 0, 1.0);
        assert_eq!(cached(&mut prompts, "one two"), 0);
        assert_eq!(cached(&mut prompts, "one two three"), 7);
    }

    #[test]
    fn without_a_host_cache_two_conversations_drive_each_other_out_of_one_slot() {
        let mut prompts = Prompts::new(1, 0, 1.0);
        for (prompt, expected) in [("aaaa", 0), ("bbbb", 0), ("aaaaaa", 0), ("bbbbbb", 0)] {
            assert_eq!(cached(&mut prompts, prompt), expected, "{prompt}");
        }
    }

    #[test]
    fn the_host_cache_brings_a_conversation_back_to_the_only_slot() {
        let mut prompts = Prompts::new(1, 100, 1.0);
        for (prompt, expected) in [("aaaa", 0), ("bbbb", 0), ("aaaaaa", 4), ("bbbbbb", 4)] {
            assert_eq!(cached(&mut prompts, prompt), expected, "{prompt}");
        }
    }

    #[test]
    fn the_host_cache_forgets_the_oldest_beyond_its_budget() {
        let mut prompts = Prompts::new(1, 5, 1.0);
        for prompt in ["aaaa", "bbbb", "cccc"] {
            assert_eq!(cached(&mut prompts, prompt), 0);
        }
        assert_eq!(cached(&mut prompts, "aaaa"), 0);
    }

    #[test]
    fn two_slots_keep_two_conversations_and_a_taken_slot_is_not_given_twice() {
        let mut prompts = Prompts::new(2, 0, 1.0);
        let (first, second) = (prompts.take("aaaa"), prompts.take("aaaa b"));
        assert_ne!(first.index, second.index);
        prompts.give_back(first.index, "aaaa".into());
        prompts.give_back(second.index, "bbbb".into());
        assert_eq!(prompts.take("bbbb c").index, second.index);
        assert_eq!(prompts.take("aaaa c").cached, 4);
    }

    #[test]
    fn a_tenth_in_common_is_not_enough_to_choose_a_slot() {
        let mut prompts = Prompts::new(2, 0, 1.0);
        let first = prompts.take("a---------");
        prompts.give_back(first.index, "a---------".into());
        let second = prompts.take("aBBBBBBBBB");
        assert_ne!(second.index, first.index);
    }
}
