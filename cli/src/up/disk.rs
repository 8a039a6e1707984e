//! The disk of the private nats-server.
//!
//! **Knows:** how much is free there, and what nats-server has logged since there was too little.
//! **Promises:** a disk that is full is said loudly, once. When there is room again, a nats-server that could not write
//! is started again: one of 2.15 never writes to such a stream again of itself.
//! **Gives up:** servers that others run.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use nix::sys::statvfs::statvfs;

/// Less than this is full: a record or a submission of a mebibyte finds no place.
const FULL: u64 = 2 << 20;
/// With this much there is room again.
const ROOM: u64 = 8 << 20;
/// What nats-server says when it cannot write.
const NO_SPACE: &str = "no space left on device";

/// Looked at now and then.
pub struct Disk {
    folder: PathBuf,
    log: PathBuf,
    /// How long the log was when the disk became full.
    full_at: Option<u64>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// It is full from now on.
    Full,
    /// There is room again; whether nats-server must be started again.
    Room(bool),
}

impl Disk {
    /// Of the nats-server that keeps its data in `folder` and writes to `log`.
    pub fn of(folder: PathBuf, log: PathBuf) -> Self {
        Self { folder, log, full_at: None }
    }

    pub fn look(&mut self) -> Found {
        let Ok(told) = statvfs(&self.folder) else { return Found::Nothing };
        self.judge(told.blocks_available().saturating_mul(told.fragment_size()))
    }

    fn judge(&mut self, free: u64) -> Found {
        match self.full_at {
            None if free < FULL => {
                self.full_at = Some(std::fs::metadata(&self.log).map_or(0, |log| log.len()));
                Found::Full
            }
            Some(from) if free >= ROOM => {
                self.full_at = None;
                Found::Room(self.said_since(from))
            }
            _ => Found::Nothing,
        }
    }

    fn said_since(&self, from: u64) -> bool {
        let Ok(mut log) = std::fs::File::open(&self.log) else { return false };
        let mut said = Vec::new();
        log.seek(SeekFrom::Start(from)).and_then(|_| log.read_to_end(&mut said)).is_ok()
            && String::from_utf8_lossy(&said).contains(NO_SPACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_could_not_write_is_started_again_when_there_is_room_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "[ERR] no space left on device, last year\n").unwrap();
        let mut disk = Disk::of(folder.path().to_owned(), log.clone());
        assert_eq!(disk.judge(ROOM), Found::Nothing);
        assert_eq!(disk.judge(FULL - 1), Found::Full);
        assert_eq!(disk.judge(0), Found::Nothing, "said once");
        assert_eq!(disk.judge(FULL + 1), Found::Nothing, "not yet");
        assert_eq!(disk.judge(ROOM), Found::Room(false), "it never had to write");
        assert_eq!(disk.judge(0), Found::Full);
        let more = std::fs::read_to_string(&log).unwrap() + "[ERR] write x: no space left on device\n";
        std::fs::write(&log, more).unwrap();
        assert_eq!(disk.judge(ROOM), Found::Room(true));
        assert_eq!(disk.judge(ROOM), Found::Nothing);
    }
}
