//! Room on a disk, and what a folder takes of it.

use std::io;
use std::path::Path;

use crate::core::size::Bytes;

/// Entries looked at; a larger folder is told as at least what was seen.
const ENTRIES_MAX: usize = 500_000;

/// Bytes that may still be written where `path` lies.
pub fn free(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Why nothing new is to be begun where `path` lies: less than `floor` is free. A disk that does
/// not tell holds nothing back.
pub fn lack_of_room(path: &Path, floor: u64) -> Option<String> {
    let free = free(path).ok()?;
    (free < floor).then(|| format!("only {} free, the floor is {}", Bytes(free), Bytes(floor)))
}

/// Bytes that a folder takes on disk; links are not followed. Blocks for as long as it takes.
pub fn taken(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;

    let mut left = ENTRIES_MAX;
    let mut total = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else {
            continue;
        };
        for entry in entries.flatten() {
            if left == 0 {
                return total;
            }
            left -= 1;
            let Ok(meta) = entry.metadata() else { continue };
            total += meta.blocks().saturating_mul(512);
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_above_what_is_free_is_a_lack_of_room() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free(dir.path()).unwrap() > 0);
        assert_eq!(lack_of_room(dir.path(), 0), None);
        let why = lack_of_room(dir.path(), u64::MAX).unwrap();
        assert!(why.starts_with("only "), "{why}");
        assert_eq!(lack_of_room(Path::new("/nowhere/at/all"), u64::MAX), None);
    }

    #[test]
    fn a_folder_takes_what_its_files_take_and_links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let taken = taken(dir.path());
        assert!((100_000..1_000_000).contains(&taken), "{taken}");
    }
}
