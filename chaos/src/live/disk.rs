//! The disk of the store, full for a while.
//!
//! **Promises:** only a disk that the store has for itself, and that is small, is filled; it is cleared when the guard is
//! dropped.
//! **Gives up:** stores on a disk that others need.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A disk that is larger than this is somebody's.
const LARGEST: u64 = 2 << 30;
const CHUNK: usize = 64 << 10;

/// A disk that is full for as long as this lives.
pub(super) struct Full(PathBuf);

impl Drop for Full {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}

/// Fills the disk that the store in `folder` has for itself. Blocks for as long as writing takes.
pub(super) fn fill(folder: &Path) -> Result<Full, String> {
    let told = |error: io::Error| format!("{}: {error}", folder.display());
    let outside = folder.parent().unwrap_or(folder);
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev());
    if device(folder).map_err(told)? == device(outside).map_err(told)? {
        return Err(format!("{} has no disk of its own", folder.display()));
    }
    let size = size(folder).map_err(told)?;
    if size > LARGEST {
        return Err(format!("the disk of {} has {size} bytes, which is too much to fill", folder.display()));
    }
    let full = Full(folder.join("ballast"));
    let mut file = File::create(&full.0).map_err(told)?;
    let chunk = vec![0; CHUNK];
    let mut length = CHUNK;
    // To the last byte: what is left after the last whole chunk is filled with ever smaller ones.
    while length > 0 {
        match file.write(&chunk[..length]) {
            Ok(written) if written > 0 => {}
            Ok(_) => length /= 2,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => length /= 2,
            Err(error) => return Err(told(error)),
        }
    }
    Ok(full)
}

fn size(folder: &Path) -> io::Result<u64> {
    let path = CString::new(folder.as_os_str().as_encoded_bytes())?;
    // SAFETY: all zeroes is a value of this struct, and the kernel fills it.
    let mut told: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends with a zero, and room for the answer.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut told) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(told.f_blocks.saturating_mul(told.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_others_need_is_not_filled() {
        let folder = std::env::temp_dir().join(format!("windfall-disk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let refused = fill(&folder).err().unwrap();
        assert!(refused.contains("has no disk of its own"), "{refused}");
        std::fs::remove_dir(folder).unwrap();
    }
}
