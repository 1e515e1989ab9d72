//! Files that others read while they are replaced.
//!
//! Manifests, certificates, keys and tokens of a local mesh are written here and nowhere else.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Who may read a file besides its owner. The state directory itself is closed to others; what is
/// secret is closed also where it is copied to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Readable {
    ByAll,
    ByOwner,
}

/// Writes a file so that a reader sees all of the old or all of the new.
pub(super) fn replace(path: &Path, text: &str, readable: Readable) -> io::Result<()> {
    // A hidden name without the extension: no reader of the directory takes it for a manifest.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    // One that was left behind may be readable by others.
    let _ = std::fs::remove_file(&temporary);
    let mode = match readable {
        Readable::ByAll => 0o644,
        Readable::ByOwner => 0o600,
    };
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_secrets_stay_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        std::fs::write(dir.path().join(".key.pem.tmp"), "left behind").unwrap();
        replace(&path, "a longer one", Readable::ByAll).unwrap();
        replace(&path, "short", Readable::ByOwner).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
