//! Splits a byte stream into lines, however it was cut into chunks on the way.
//!
//! Lines are bounded: a server that never ends a line must not fill the memory.

/// A line grew beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of the answer is longer than {limit} bytes")]
pub struct LineTooLong {
    /// The limit, bytes.
    pub limit: usize,
}

/// Collects bytes and gives back whole lines.
#[derive(Debug)]
pub struct LineDecoder {
    partial: Vec<u8>,
    limit: usize,
}

impl LineDecoder {
    /// A decoder of lines of at most `limit` bytes, line end not counted.
    pub fn new(limit: usize) -> Self {
        Self {
            partial: Vec::new(),
            limit,
        }
    }

    /// Takes the next bytes and returns the lines that they complete, without line ends and
    /// without empty lines.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut lines = Vec::new();
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.grow(line)?;
            lines.extend(self.take());
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.grow(bytes)?;
        Ok(lines)
    }

    /// The last line, if the stream ended without a line end.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        self.take()
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        if self.partial.len() + bytes.len() > self.limit {
            return Err(LineTooLong { limit: self.limit });
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let mut line = std::mem::take(&mut self.partial);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        (!line.is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_beyond_the_limit_is_refused_even_without_an_end() {
        let mut decoder = LineDecoder::new(4);
        assert_eq!(decoder.push(b"1234\n12").unwrap(), [b"1234".to_vec()]);
        assert_eq!(decoder.push(b"345"), Err(LineTooLong { limit: 4 }));
    }

    #[test]
    fn a_last_line_without_an_end_is_given_by_finish() {
        let mut decoder = LineDecoder::new(10);
        assert_eq!(decoder.push(b"a\r\n\nb").unwrap(), [b"a".to_vec()]);
        assert_eq!(decoder.finish(), Some(b"b".to_vec()));
        assert_eq!(decoder.finish(), None);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_the_chunks(
            bytes in proptest::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..20),
        ) {
            let expected: Vec<Vec<u8>> = bytes
                .split(|&byte| byte == b'\n')
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
                .filter(|line| !line.is_empty())
                .collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut decoder = LineDecoder::new(1_000);
            let mut lines = Vec::new();
            for pair in cuts.windows(2) {
                lines.extend(decoder.push(&bytes[pair[0]..pair[1]]).unwrap());
            }
            lines.extend(decoder.finish());
            prop_assert_eq!(lines, expected);
        }
    }
}
