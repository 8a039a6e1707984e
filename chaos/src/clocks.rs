//! Wall clocks that can be turned, one process at a time: libfaketime, loaded into it before it starts.
//!
//! **Knows:** where Debian's package puts that library; of a process, whether it has it and which file it goes by.
//! **Promises:** monotonic time goes on as it did; a clock that was turned is right again when its guard is dropped.
//! **Gives up:** programs that ask the kernel themselves, as nats-server does; machines without the library: whoever has none
//! of it has a clock that cannot be turned, and is told so.

use std::io;
use std::path::{Path, PathBuf};

/// Names the library where it is somewhere else.
const LIBRARY: &str = "WINDFALL_FAKETIME";
/// The variable in which a process is told its file.
const FILE: &str = "FAKETIME_TIMESTAMP_FILE";
/// What a file says of a clock that is right.
const RIGHT: &str = "+0\n";
/// Where the library leaves things of a process that was killed.
const SHARED_MEMORY: &str = "/dev/shm";

/// The library, if this machine has it.
pub fn library() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(LIBRARY) {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let folders = [format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH), "/usr/lib".to_owned()];
    folders
        .iter()
        .map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file())
}

/// What a process is started with whose clock `file` turns; it is right until then.
///
/// # Errors
/// The file cannot be written.
pub fn environment(library: &Path, file: &Path) -> io::Result<Vec<(String, String)>> {
    std::fs::write(file, RIGHT)?;
    let set = |name: &str, value: String| (name.to_owned(), value);
    Ok(vec![
        set("LD_PRELOAD", library.display().to_string()),
        set(FILE, file.display().to_string()),
        set("FAKETIME_NO_CACHE", "1".into()),
        // Two names of one thing, by the library's age.
        set("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        set("DONT_FAKE_MONOTONIC", "1".into()),
    ])
}

/// A clock that is wrong for as long as this lives.
#[derive(Debug)]
#[must_use = "the clock is right again as soon as this is dropped"]
pub struct Turned(PathBuf);

impl Drop for Turned {
    fn drop(&mut self) {
        // It may be gone with its VM.
        if self.0.exists() {
            let _ = replace(&self.0, RIGHT);
        }
    }
}

/// Turns the wall clock of a process: so many seconds ahead, or behind where they are negative.
///
/// # Errors
/// It has a clock that cannot be turned.
pub fn turn(pid: u32, seconds: i64) -> Result<Turned, String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let file = environment.split(|byte| *byte == 0).find_map(|variable| {
        let variable = std::str::from_utf8(variable).ok()?;
        Some(PathBuf::from(variable.strip_prefix(FILE)?.strip_prefix('=')?))
    });
    // A variable that is there without the library would turn nothing.
    let file = file.filter(|_| maps.contains("libfaketime")).ok_or(
        "its clock cannot be turned: `windfall up --clocks` loads libfaketime (Debian's package of that name) for that",
    )?;
    replace(&file, &format!("{seconds:+}\n")).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Turned(file))
}

/// A file that is read at any moment is never half written.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let next = path.with_extension("next");
    std::fs::write(&next, text)?;
    std::fs::rename(next, path)
}

/// Removes what the library has left in shared memory of processes that are gone: it tidies up only after those that end
/// by themselves.
pub fn clear_away() {
    let Ok(entries) = std::fs::read_dir(SHARED_MEMORY) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| {
            let name = name.strip_prefix("sem.").unwrap_or(name);
            name.strip_prefix("faketime_shm_")
                .or_else(|| name.strip_prefix("faketime_sem_"))?
                .parse::<u32>()
                .ok()
        });
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Somebody else may have been faster.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::time::{SystemTime, UNIX_EPOCH};

    /// What `date` says that runs in the environment of a turned clock, in seconds from ours.
    fn ahead(environment: &[(String, String)]) -> i64 {
        let of_it = Command::new("date").arg("+%s").envs(environment.iter().cloned()).output().unwrap();
        let theirs: i64 = String::from_utf8(of_it.stdout).unwrap().trim().parse().unwrap();
        theirs - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
    }

    fn sleeper(environment: &[(String, String)]) -> Child {
        let mut command = Command::new("sleep");
        command.arg("60").envs(environment.iter().cloned()).stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn a_clock_is_turned_for_as_long_as_its_guard_lives_and_no_other_is() {
        let Some(library) = library() else {
            println!("skipped: libfaketime is not here");
            return;
        };
        let folder = std::env::temp_dir().join(format!("windfall-clocks-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [one, other] = ["one", "other"].map(|name| environment(&library, &folder.join(name)).unwrap());
        let mut child = sleeper(&one);
        let turned = loop {
            // It has our own memory until it has become another program.
            match turn(child.id(), -7_200) {
                Ok(turned) => break turned,
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        };
        assert!((-7_202..=-7_198).contains(&ahead(&one)), "{}", ahead(&one));
        assert!(ahead(&other).abs() <= 2);
        drop(turned);
        assert!(ahead(&one).abs() <= 2);
        child.kill().unwrap();
        child.wait().unwrap();
        clear_away();
        let left = PathBuf::from(format!("{SHARED_MEMORY}/faketime_shm_{}", child.id()));
        assert!(!left.exists(), "{}", left.display());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_process_without_the_library_is_told_what_it_lacks() {
        let mut child = sleeper(&[(FILE.to_owned(), "/nowhere".to_owned())]);
        let refused = turn(child.id(), 60).unwrap_err();
        assert!(refused.contains("windfall up --clocks"), "{refused}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
