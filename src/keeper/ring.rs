//! Recent output of a job, in memory that outlives every server.
//!
//! A ring is a memory file: a header page whose first eight bytes count all bytes ever written
//! (little-endian), then 4 MiB used round and round. It is read and written with `pread` and
//! `pwrite`, so no memory is mapped and no other process can crash this one through it.
//!
//! Invariant: one writer at a time (whoever reads the pty). A writer killed between data and
//! header leaves at most 64 KiB of damage in the oldest part, which is never returned.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::platform;

const HEADER: u64 = 4 << 10;
const CAPACITY: u64 = 4 << 20;
/// Largest piece written before the header is updated.
const GUARD: u64 = 64 << 10;

/// The most bytes a ring gives back.
pub const KEPT: u64 = CAPACITY - GUARD;

/// A ring buffer that can be handed to another process.
#[derive(Debug)]
pub struct Ring {
    file: File,
}

impl Ring {
    /// An empty ring.
    pub fn create() -> io::Result<Self> {
        let file = File::from(platform::memory_file()?);
        file.set_len(HEADER + CAPACITY)?;
        Ok(Self { file })
    }

    /// A ring received from another process; refused if it is not one.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        if file.metadata()?.len() != HEADER + CAPACITY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a ring"));
        }
        Ok(Self { file })
    }

    /// The same ring behind a second descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
        })
    }

    /// Bytes ever written.
    pub fn cursor(&self) -> io::Result<u64> {
        let mut header = [0; 8];
        self.file.read_exact_at(&mut header, 0)?;
        Ok(u64::from_le_bytes(header))
    }

    /// Adds `bytes` and returns the new cursor.
    pub fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        let mut cursor = self.cursor()?;
        for piece in bytes.chunks(usize::try_from(GUARD).unwrap_or(usize::MAX)) {
            let until_end = usize::try_from(CAPACITY - cursor % CAPACITY).unwrap_or(usize::MAX);
            let (first, wrapped) = piece.split_at(piece.len().min(until_end));
            self.file.write_all_at(first, HEADER + cursor % CAPACITY)?;
            self.file.write_all_at(wrapped, HEADER)?;
            cursor += piece.len() as u64;
            self.file.write_all_at(&cursor.to_le_bytes(), 0)?;
        }
        Ok(cursor)
    }

    /// Everything that is kept: the cursor of its first byte, and the bytes.
    pub fn read_all(&self) -> io::Result<(u64, Vec<u8>)> {
        self.read_from(0)
    }

    /// What was written since `cursor`, as far as it is kept: the cursor of the first byte, and
    /// the bytes.
    pub fn read_from(&self, cursor: u64) -> io::Result<(u64, Vec<u8>)> {
        let end = self.cursor()?;
        let start = cursor.clamp(end.saturating_sub(KEPT), end);
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        let until_end = usize::try_from(CAPACITY - start % CAPACITY).unwrap_or(usize::MAX);
        let (first, wrapped) = {
            let at = bytes.len().min(until_end);
            bytes.split_at_mut(at)
        };
        self.file.read_exact_at(first, HEADER + start % CAPACITY)?;
        self.file.read_exact_at(wrapped, HEADER)?;
        Ok((start, bytes))
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_ring_gives_nothing() {
        assert_eq!(Ring::create().unwrap().read_all().unwrap(), (0, Vec::new()));
    }

    #[test]
    fn a_file_that_is_no_ring_is_refused() {
        assert!(Ring::from_fd(tempfile::tempfile().unwrap().into()).is_err());
    }

    #[test]
    fn a_cursor_from_the_future_gives_nothing() {
        let ring = Ring::create().unwrap();
        ring.append(b"abc").unwrap();
        assert_eq!(ring.read_from(99).unwrap(), (3, Vec::new()));
    }

    #[test]
    fn a_second_descriptor_sees_the_same_bytes() {
        let ring = Ring::create().unwrap();
        let other = Ring::from_fd(ring.as_fd().try_clone_to_owned().unwrap()).unwrap();
        ring.append(b"from one").unwrap();
        other.append(b", from two").unwrap();
        assert_eq!(
            ring.read_all().unwrap(),
            (0, b"from one, from two".to_vec())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_ring_gives_back_the_end_of_what_was_written(
            sizes in proptest::collection::vec(0usize..900_000, 1..12),
            from in 0u64..8_000_000,
        ) {
            let ring = Ring::create().unwrap();
            let mut written = Vec::new();
            for (round, size) in sizes.into_iter().enumerate() {
                let piece: Vec<u8> = (0..size).map(|at| ((at * 31 + round) % 251).try_into().unwrap()).collect();
                ring.append(&piece).unwrap();
                written.extend(piece);
            }
            let end = written.len() as u64;
            let start = from.clamp(end.saturating_sub(KEPT), end);
            let (at, bytes) = ring.read_from(from).unwrap();
            prop_assert_eq!(at, start);
            prop_assert!(bytes == written[usize::try_from(start).unwrap()..]);
        }
    }
}
