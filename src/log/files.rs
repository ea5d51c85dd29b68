//! What the files of a log are called.

use std::path::{Path, PathBuf};

use crate::types::Offset;

pub(super) const LOG: &str = ".log";
pub(super) const INDEX: &str = ".index";
/// A file whose removal is only delayed.
pub(super) const DELETED: &str = ".deleted";
/// A compacted segment being written: to be thrown away when found.
pub(super) const CLEANED: &str = ".cleaned";
/// A compacted segment that is complete and takes the place of what it was made from.
pub(super) const SWAP: &str = ".swap";
pub(super) const TEMPORARY: &str = super::checkpoint::TEMPORARY_SUFFIX;

/// A file named by the offset it begins at.
pub(super) fn path(dir: &Path, base_offset: Offset, suffix: &str) -> PathBuf {
    dir.join(name(base_offset, suffix))
}

/// `path` with `suffix` added to its name.
pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn name(base_offset: Offset, suffix: &str) -> String {
    format!("{:020}{suffix}", base_offset.0)
}

/// The base offset in a name that ends in `suffix`; `None` for any other name.
pub(super) fn base_offset_in(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_offset_back() {
        let offset = Offset(1_234_567_890_123);
        assert_eq!(name(offset, LOG), "00000001234567890123.log");
        assert_eq!(base_offset_in(&name(offset, LOG), LOG), Some(offset));
        assert_eq!(base_offset_in("00000001234567890123.log.swap", LOG), None);
        assert_eq!(base_offset_in("99999999999999999999.log", LOG), None);
        assert_eq!(base_offset_in("+0000001234567890123.log", LOG), None);
    }
}
