//! Whether a file may be given to the system's loader.
//!
//! **Knows:** the outline of an ELF file: its header, its segments, its section table.
//! **Promises:** a file that was cut short, or is for another machine, is refused here. The loader maps what the
//! segments say and then touches it: past the end of a file that is a bus error, which nobody can catch.
//! **Gives up:** judging what is inside. A library of the right outline is believed, as any program believes its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Why a file is not given to the loader.
#[derive(Debug, thiserror::Error)]
pub enum BadLibrary {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is something else.
    #[error("is not a shared library")]
    NotALibrary,
    /// It is a library, for other machines.
    #[error("is a shared library for another kind of machine")]
    OtherMachine,
    /// Its end is missing.
    #[error("is cut short: it should have {needed} bytes and has {length}; install it again")]
    CutShort {
        /// What its own header asks for.
        needed: u64,
        /// What there is.
        length: u64,
    },
}

/// Length of the header of a 64-bit ELF file.
const HEADER: usize = 64;
/// Length of one entry of its segment table.
const SEGMENT: usize = 56;
/// Segments that are read at most; libraries have about ten.
const SEGMENTS_MAX: u16 = 256;
/// The number of this machine in ELF (`e_machine`), where it is known.
const MACHINE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(62)
} else if cfg!(target_arch = "aarch64") {
    Some(183)
} else {
    None
};

/// Checks that `path` is a whole 64-bit little-endian shared library for this machine.
pub(crate) fn check(path: &Path) -> Result<(), BadLibrary> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0).map_err(not_a_library_if_short)?;
    // Magic, 64 bits, little-endian; then the type: 3 is a shared object.
    if header[..4] != *b"\x7fELF" || u16_at(&header, 16) != 3 {
        return Err(BadLibrary::NotALibrary);
    }
    if header[4..6] != [2, 1] || MACHINE.is_some_and(|machine| machine != u16_at(&header, 18)) {
        return Err(BadLibrary::OtherMachine);
    }
    // The section table is what linkers write last.
    let sections = u64::from(u16_at(&header, 58)) * u64::from(u16_at(&header, 60));
    let mut needed = u64_at(&header, 40).saturating_add(sections);
    let segments = u16_at(&header, 56).min(SEGMENTS_MAX);
    if u16_at(&header, 54) != SEGMENT as u16 {
        return Err(BadLibrary::NotALibrary);
    }
    for index in 0..segments {
        let mut segment = [0; SEGMENT];
        let at = u64_at(&header, 32).saturating_add(u64::from(index) * SEGMENT as u64);
        file.read_exact_at(&mut segment, at).map_err(not_a_library_if_short)?;
        needed = needed.max(u64_at(&segment, 8).saturating_add(u64_at(&segment, 32)));
    }
    if needed > length { Err(BadLibrary::CutShort { needed, length }) } else { Ok(()) }
}

fn not_a_library_if_short(error: io::Error) -> BadLibrary {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BadLibrary::NotALibrary,
        _ => BadLibrary::Unreadable(error),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    (0..8).fold(0, |value, i| value | u64::from(bytes[at + i]) << (8 * i))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library that this test itself has loaded.
    fn some_library() -> Vec<u8> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path =
            maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|p| p.contains("libc.so"));
        std::fs::read(path.expect("tests are linked to the C library")).unwrap()
    }

    fn checked(bytes: &[u8]) -> Result<(), BadLibrary> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        check(file.path())
    }

    #[test]
    fn a_library_is_taken_whole_and_refused_when_cut_anywhere() {
        let whole = some_library();
        checked(&whole).unwrap();
        for length in [0, 3, 63, 64, 200, 4_096, whole.len() / 2, whole.len() - 1] {
            let refused = checked(&whole[..length]).unwrap_err();
            assert!(
                matches!(refused, BadLibrary::CutShort { .. } | BadLibrary::NotALibrary),
                "{length}: {refused}"
            );
        }
    }

    #[test]
    fn other_files_and_other_machines_are_told_apart() {
        assert!(matches!(checked(&[b'x'; 500]), Err(BadLibrary::NotALibrary)));
        let mut foreign = some_library();
        foreign[18] = 8; // MIPS.
        assert!(matches!(checked(&foreign), Err(BadLibrary::OtherMachine)));
        let nowhere = check(Path::new("/nowhere/libonnxruntime.so"));
        assert!(matches!(nowhere, Err(BadLibrary::Unreadable(_))));
        assert!(check(Path::new("/")).is_err(), "a folder is no library");
    }

    #[test]
    fn absurd_tables_are_refused_and_take_no_time() {
        let mut absurd = some_library();
        absurd[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        absurd[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
        assert!(checked(&absurd).is_err());
    }
}
