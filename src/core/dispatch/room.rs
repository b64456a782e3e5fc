//! Which runners fit into the memory of one GPU together.
//!
//! The room is configured or measured by somebody else; where it is not, it is learned: what was
//! seen in memory together fits, what has pushed something out does not. What is in between may
//! be tried when nobody is served, because then nothing is lost.

/// The room of one GPU.
#[derive(Debug, Clone, Default)]
pub(super) struct Room {
    /// Bytes that may be used, if somebody knows.
    pub(super) known: Option<u64>,
    floor: u64,
    ceiling: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    /// A size or the room is not known.
    Unknown,
    No,
}

impl Room {
    /// Whether runners of these sizes fit together; 0 is a size that is not known.
    pub(super) fn fit(&self, sizes: impl Iterator<Item = u64>) -> Fit {
        let (mut sum, mut count, mut unknown) = (0_u64, 0, false);
        for size in sizes {
            sum = sum.saturating_add(size);
            count += 1;
            unknown |= size == 0;
        }
        if count <= 1 {
            return Fit::Yes;
        }
        if self.ceiling.is_some_and(|ceiling| sum >= ceiling) {
            return Fit::No;
        }
        match (self.known, unknown) {
            (Some(room), _) if sum > room => Fit::No,
            (Some(_), false) => Fit::Yes,
            (None, false) if sum <= self.floor => Fit::Yes,
            (Some(_), true) | (None, _) => Fit::Unknown,
        }
    }

    /// Runners of `sum` bytes were in memory together.
    pub(super) fn saw_together(&mut self, sum: u64) {
        self.floor = self.floor.max(sum);
        if self.ceiling.is_some_and(|ceiling| sum >= ceiling) {
            self.ceiling = None;
        }
    }

    /// Loading something, so that there would be `sum` bytes, has pushed something out.
    pub(super) fn saw_pushed_out(&mut self, sum: u64) {
        self.ceiling = Some(self.ceiling.map_or(sum, |ceiling| ceiling.min(sum)));
        self.floor = self.floor.min(sum.saturating_sub(1));
    }
}
