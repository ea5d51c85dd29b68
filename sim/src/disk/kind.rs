//! What a file is for, by its path.

use std::path::Path;

use crate::plan::FileKind;

/// Where the metadata log lies, whatever its files are called.
const METADATA_DIRECTORY: &str = "__cluster_metadata";
/// What a name ends with while its file is not in place yet, or not removed yet.
const PASSING: [&str; 4] = [".deleted", ".cleaned", ".swap", ".tmp"];

/// The kind of the file at `path`; never [`FileKind::Any`].
pub(super) fn kind_of(path: &Path) -> FileKind {
    let in_metadata = path
        .iter()
        .any(|part| part.to_string_lossy().starts_with(METADATA_DIRECTORY));
    if in_metadata {
        return FileKind::Metadata;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut name = &*name;
    while let Some(shorter) = PASSING.iter().find_map(|end| name.strip_suffix(end)) {
        name = shorter;
    }
    match name.rsplit_once('.') {
        Some((_, "log")) => FileKind::Segment,
        Some((_, "index")) => FileKind::Index,
        Some((_, "snapshot")) => FileKind::Snapshot,
        _ => FileKind::Checkpoint,
    }
}

/// Whether a fault for `wanted` concerns a file of `kind`.
pub(super) fn concerns(wanted: FileKind, kind: FileKind) -> bool {
    wanted == FileKind::Any || wanted == kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_what_its_file_is_for() {
        for (path, kind) in [
            ("/data/t-0/00000000000000000000.log", FileKind::Segment),
            ("/data/t-0/00000000000000000000.log.swap", FileKind::Segment),
            (
                "/data/t-0/00000000000000000007.log.cleaned",
                FileKind::Segment,
            ),
            ("/data/t-0/00000000000000000000.index", FileKind::Index),
            ("/data/t-0/00000000000000000000.index.tmp", FileKind::Index),
            (
                "/data/t-0/00000000000000000000.snapshot",
                FileKind::Snapshot,
            ),
            ("/data/t-0/leader-epoch-checkpoint", FileKind::Checkpoint),
            ("/data/t-0/log-start-offset.tmp", FileKind::Checkpoint),
            ("/data/meta.properties", FileKind::Checkpoint),
            ("/data/.lock", FileKind::Checkpoint),
            (
                "/data/__cluster_metadata-0/00000000000000000000.records",
                FileKind::Metadata,
            ),
            (
                "/data/__cluster_metadata-0/00000000000000000009.snapshot",
                FileKind::Metadata,
            ),
        ] {
            assert_eq!(kind_of(Path::new(path)), kind, "{path}");
        }
    }
}
