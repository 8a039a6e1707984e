//! Small files whose every write is a command.
//!
//! **Knows:** how the kernel wants them read and written: in one go.
//! **Promises:** a refused write is an error (buffered writers swallow it).
//! **Gives up:** values longer than a few KiB; only lists of processes are, and they are read apart.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Writes `text` with one `write(2)`.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    write_to(&OpenOptions::new().write(true).open(path)?, text)
}

/// Writes `text` with one `pwrite(2)` to a file that is kept open.
pub(super) fn write_to(file: &File, text: &str) -> io::Result<()> {
    let written = file.write_at(text.as_bytes(), 0)?;
    if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Reads a small file whole.
pub(super) fn read(path: &Path) -> io::Result<String> {
    read_from(&File::open(path)?)
}

/// Reads a small file that is kept open, from its beginning.
pub(super) fn read_from(file: &File) -> io::Result<String> {
    let mut buffer = [0u8; 4096];
    let length = file.read_at(&mut buffer, 0)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Reads one number from a file that is kept open, without taking memory.
pub(super) fn number_from(file: &File) -> io::Result<u64> {
    let mut buffer = [0u8; 32];
    let length = file.read_at(&mut buffer, 0)?;
    std::str::from_utf8(&buffer[..length]).ok().and_then(number).ok_or_else(|| invalid("a number"))
}

/// Reads the value of `key` in a file of lines `key value` that is kept open.
pub(super) fn entry_from(file: &File, key: &str) -> io::Result<Option<u64>> {
    let mut buffer = [0u8; 4096];
    let length = file.read_at(&mut buffer, 0)?;
    Ok(std::str::from_utf8(&buffer[..length]).ok().and_then(|text| entry(text, key)))
}

/// A number with blanks around it; `max` and negative numbers are none.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The value of `key` in lines `key value`.
pub(super) fn entry(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ').and_then(number))
}

pub(super) fn invalid(expected: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel did not answer with {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_their_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(entry(text, "oom_kill"), Some(3));
        assert_eq!(entry(text, "oom"), None);
        assert_eq!(number("max\n"), None);
        assert_eq!(number("-1\n"), None);
        assert_eq!(number("42\n"), Some(42));
    }
}
