//! How many cores an Azure Harvest VM has now, as Hyper-V tells its guest.
//!
//! **Knows:** the pool file of the key-value pair exchange: records of 512 bytes of key and 2048 bytes of value, each
//! padded with zero bytes; the key is `CurrentCoreCount`, the value a decimal such as `12.0`.
//! **Promises:** the file is read anew each time, since it is rewritten in place and neither its size nor its time
//! need change; what is half written, or nonsense, is none.
//! **Gives up:** the other pools, which carry what guests and users say.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use vocabulary::MilliCores;

const KEY: usize = 512;
const RECORD: usize = KEY + 2048;
const CORES: &[u8] = b"CurrentCoreCount";
/// The exchange holds some hundred records at most.
const LENGTH_MAX: u64 = 4096 * RECORD as u64;
/// No machine has more.
const CORES_MAX: f64 = 65_536.0;

pub(super) struct Kvp {
    path: PathBuf,
    buffer: Vec<u8>,
}

impl Kvp {
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), buffer: Vec::new() }
    }

    /// The cores that the host gives now. None where there is no such file (or record): then the host says nothing.
    ///
    /// # Errors
    /// There is a file, and what it says cannot be read now: it may be half written.
    pub fn read(&mut self) -> io::Result<Option<MilliCores>> {
        self.buffer.clear();
        match File::open(&self.path) {
            Ok(file) => file.take(LENGTH_MAX).read_to_end(&mut self.buffer)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let records = self.buffer.chunks_exact(RECORD);
        let is_whole = records.remainder().is_empty();
        let mut found = records.filter(|record| text(&record[..KEY]) == CORES);
        match found.next().map(|record| cores(text(&record[KEY..]))) {
            Some(Some(cores)) => Ok(Some(cores)),
            // Emptied to be written anew, or in the middle of it.
            Some(None) => Err(io::ErrorKind::InvalidData.into()),
            None if is_whole && !self.buffer.is_empty() => Ok(None),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn text(padded: &[u8]) -> &[u8] {
    let end = padded.iter().position(|byte| *byte == 0).unwrap_or(padded.len());
    &padded[..end]
}

fn cores(text: &[u8]) -> Option<MilliCores> {
    let cores: f64 = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    // Not a number is not within it either.
    (cores > 0.0 && cores <= CORES_MAX).then(|| MilliCores(((cores * 1000.0).round() as u32).max(1)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn record(key: &str, value: &str) -> Vec<u8> {
        let mut record = vec![0; RECORD];
        record[..key.len()].copy_from_slice(key.as_bytes());
        record[KEY..KEY + value.len()].copy_from_slice(value.as_bytes());
        record
    }

    #[test]
    fn the_core_count_is_followed_through_rewrites_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool");
        let mut kvp = Kvp::at(&path);
        assert_eq!(kvp.read().unwrap(), None, "no file says nothing");
        let others =
            [record("HostName", "host"), record("CurrentCoreCount", "12.0"), record("X", "y")].concat();
        std::fs::write(&path, &others).unwrap();
        assert_eq!(kvp.read().unwrap(), Some(MilliCores(12_000)));
        // In place: neither size nor inode changes.
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&record("CurrentCoreCount", "2.5"), RECORD as u64).unwrap();
        assert_eq!(kvp.read().unwrap(), Some(MilliCores(2_500)));
        file.set_len(RECORD as u64 + 600).unwrap();
        assert!(kvp.read().is_err(), "half a record is no news");
        file.set_len(0).unwrap();
        assert!(kvp.read().is_err(), "an emptied file is about to be written");
        std::fs::write(&path, record("HostName", "host")).unwrap();
        assert_eq!(kvp.read().unwrap(), None, "a host that does not say");
    }

    #[test]
    fn nonsense_is_no_core_count() {
        for (value, cores) in [("12", Some(12_000)), (" 1.0 ", Some(1_000)), ("0.5", Some(500))] {
            assert_eq!(super::cores(value.as_bytes()), cores.map(MilliCores), "{value}");
        }
        for value in ["", "0", "-3", "NaN", "inf", "1e99", "twelve"] {
            assert_eq!(super::cores(value.as_bytes()), None, "{value}");
        }
    }
}
