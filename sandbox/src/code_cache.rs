//! Code, unpacked once and shared read-only by all sandboxes of a build.
//!
//! **Knows:** zips, scripts and executables as users give them.
//! **Promises:** nothing is written outside of the build's own folder, whatever an archive says; a folder is
//! there whole or not at all; no more bytes and entries than allowed are unpacked, whatever sizes an
//! archive claims; code in use is never removed.
//! **Gives up:** symbolic links and special files in archives: links could lead anywhere, and OpenWhisk's
//! archives have none that matter.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Code, Family, StartError};

/// All unpacked code of one Workshop.
pub(crate) struct CodeCache {
    folder: PathBuf,
    limits: CodeLimits,
    builds: Mutex<HashMap<String, Build>>,
    clock: AtomicU64,
}

/// How much code may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodeLimits {
    pub(crate) unpacked: u64,
    pub(crate) entries: usize,
    pub(crate) kept: u64,
}

struct Build {
    in_use: Arc<Unpacked>,
    used: u64,
}

/// One build, unpacked.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Its folder's name in the cache.
    pub(crate) name: String,
    /// Whether it came as an archive.
    pub(crate) is_archive: bool,
    bytes: u64,
}

/// Keeps a build from being removed.
pub(crate) type CodeInUse = Arc<Unpacked>;

impl CodeCache {
    /// A cache in `folder`, which is ours alone and empty.
    pub(crate) fn new(folder: PathBuf, limits: CodeLimits) -> Self {
        Self { folder, limits, builds: Mutex::default(), clock: AtomicU64::new(0) }
    }

    /// The build, if it is there already.
    pub(crate) fn find(&self, family: Family, code: &Code) -> Option<CodeInUse> {
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        let build = builds.get_mut(&name(family, code))?;
        build.used = self.clock.fetch_add(1, Ordering::Relaxed);
        Some(build.in_use.clone())
    }

    /// Unpacks the build. Blocks.
    pub(crate) fn unpack(&self, family: Family, code: &Code) -> Result<CodeInUse, StartError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if code.digest.is_empty() || code.digest.len() > 128 || !code.digest.bytes().all(legal) {
            let message = "a digest is 1 to 128 characters of [A-Za-z0-9_-]".to_owned();
            return Err(StartError::host("name the code", io::Error::other(message)));
        }
        let name = name(family, code);
        let turn = self.clock.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!(".unfinished-{turn}"));
        let result = make_folders(&self.folder, &unfinished)
            .map_err(Trouble::Host)
            .and_then(|()| write_build(family, code, &unfinished, self.limits));
        let (bytes, is_archive) = match result {
            Ok(written) => written,
            Err(trouble) => {
                let _ = fs::remove_dir_all(&unfinished);
                return Err(match trouble {
                    Trouble::Code(message) => StartError::BadCode { message },
                    Trouble::Host(error) => StartError::host("unpack the code", error),
                });
            }
        };
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(build) = builds.get(&name) {
            let _ = fs::remove_dir_all(&unfinished); // Somebody else was faster.
            return Ok(build.in_use.clone());
        }
        fs::rename(&unfinished, self.folder.join(&name))
            .map_err(|error| StartError::host("keep the unpacked code", error))?;
        let in_use = Arc::new(Unpacked { name: name.clone(), is_archive, bytes });
        builds.insert(name, Build { in_use: in_use.clone(), used: turn });
        self.make_room(&mut builds);
        Ok(in_use)
    }

    /// Where a build is.
    pub(crate) fn folder(&self, build: &Unpacked) -> PathBuf {
        self.folder.join(&build.name)
    }

    /// Removes what has not been used for longest, until what is kept fits.
    fn make_room(&self, builds: &mut HashMap<String, Build>) {
        let mut kept: u64 = builds.values().map(|build| build.in_use.bytes).sum();
        while kept > self.limits.kept {
            let idle = builds.iter().filter(|(_, build)| Arc::strong_count(&build.in_use) == 1);
            let Some(oldest) = idle.min_by_key(|(_, build)| build.used).map(|(name, _)| name.clone()) else {
                return; // All of it is in use; sandboxes are limited, so is this.
            };
            if let Some(build) = builds.remove(&oldest) {
                kept -= build.in_use.bytes;
                let _ = fs::remove_dir_all(self.folder.join(&oldest));
            }
        }
    }
}

fn name(family: Family, code: &Code) -> String {
    format!("{family}-{}-{}", if code.binary { "binary" } else { "text" }, code.digest)
}

/// Whose fault it is.
enum Trouble {
    Code(String),
    Host(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

fn write_build(
    family: Family,
    code: &Code,
    folder: &Path,
    limits: CodeLimits,
) -> Result<(u64, bool), Trouble> {
    let bytes = &code.bytes;
    let is_archive = code.binary && bytes.starts_with(b"PK");
    if is_archive {
        let unpacked = unpack(bytes, folder, limits)?;
        let wanted = folder.join("exec");
        if family == Family::Native {
            if !wanted.is_file() {
                return Err(Trouble::Code("The zip has no file 'exec' at its top.".to_owned()));
            }
            fs::set_permissions(&wanted, fs::Permissions::from_mode(0o755))?;
        }
        return Ok((unpacked, true));
    }
    if code.binary && family != Family::Native {
        return Err(Trouble::Code(format!(
            "Binary code for {family} must be a zip archive, and this is none."
        )));
    }
    let (file, mode) = match family {
        Family::Python => ("__main__.py", 0o644),
        Family::Nodejs => ("index.js", 0o644),
        Family::Native => ("exec", 0o755),
    };
    if family == Family::Native && !bytes.starts_with(b"\x7fELF") && !bytes.starts_with(b"#!") {
        let message =
            "Native code is an ELF executable, a script that starts with #!, or a zip with a file 'exec'.";
        return Err(Trouble::Code(message.to_owned()));
    }
    let mut out = create(&folder.join(file), mode)?;
    out.write_all(bytes)?;
    Ok((bytes.len() as u64, false))
}

fn create(path: &Path, mode: u32) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?; // Whatever our umask is.
    Ok(file)
}

/// Makes `folder` with those above it up to `root`, for everybody to enter.
fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    if folder == root || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folders(root, above)?;
    }
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// Unpacks a zip into `folder`; returns how many bytes that were.
fn unpack(bytes: &[u8], folder: &Path, limits: CodeLimits) -> Result<u64, Trouble> {
    let unreadable =
        |error: &dyn std::fmt::Display| Trouble::Code(format!("The zip cannot be read: {error}."));
    let mut archive = zip::ZipArchive::new(io::Cursor::new(bytes)).map_err(|e| unreadable(&e))?;
    if archive.len() > limits.entries {
        let (has, limit) = (archive.len(), limits.entries);
        return Err(Trouble::Code(format!("The zip has {has} entries; at most {limit} are allowed.")));
    }
    let mut room = limits.unpacked;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|e| unreadable(&e))?;
        let name = entry.name().to_owned();
        let outside = || Trouble::Code(format!("The zip has an entry outside of itself: {name:?}."));
        let path = Path::new(&name);
        if name.contains(['\\', '\0'])
            || path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
        {
            return Err(outside());
        }
        let target = folder.join(path);
        if entry.is_dir() {
            make_folders(folder, &target).map_err(|e| clash(&name, e))?;
            continue;
        }
        if entry.is_symlink() {
            return Err(Trouble::Code(format!(
                "The zip has a symbolic link, which is not allowed: {name:?}."
            )));
        }
        if let Some(above) = target.parent() {
            make_folders(folder, above).map_err(|e| clash(&name, e))?;
        }
        let executable = entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
        let mut out = create(&target, if executable { 0o755 } else { 0o644 }).map_err(|e| clash(&name, e))?;
        let mut buffer = [0u8; 65_536];
        loop {
            let length = entry.read(&mut buffer).map_err(|e| unreadable(&e))?;
            if length == 0 {
                break;
            }
            room = room.checked_sub(length as u64).ok_or_else(|| {
                Trouble::Code(format!("The zip unpacks to more than {} bytes.", limits.unpacked))
            })?;
            out.write_all(&buffer[..length])?;
        }
    }
    Ok(limits.unpacked - room)
}

/// An entry that names a folder another entry uses as a file, twice the same file, or a name too long.
fn clash(name: &str, error: io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(libc::EEXIST | libc::ENOTDIR | libc::EISDIR | libc::ENAMETOOLONG) => {
            Trouble::Code(format!("The zip has an entry that cannot be written: {name:?} ({error})."))
        }
        _ => Trouble::Host(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CodeLimits = CodeLimits { unpacked: 10_000, entries: 4, kept: 10_000 };

    fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn code(bytes: Vec<u8>, digest: &str) -> Code {
        Code { bytes: bytes.into(), binary: true, digest: digest.into() }
    }

    fn cache(folder: &Path) -> CodeCache {
        CodeCache::new(folder.to_owned(), LIMITS)
    }

    #[test]
    fn an_archive_is_unpacked_once_and_then_found() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let code = code(zipped(&[("__main__.py", b"x = 1"), ("lib/a.py", b"y")]), "d1");
        assert!(cache.find(Family::Python, &code).is_none());
        let build = cache.unpack(Family::Python, &code).unwrap();
        assert!(build.is_archive);
        assert_eq!(fs::read(cache.folder(&build).join("lib/a.py")).unwrap(), b"y");
        assert_eq!(cache.find(Family::Python, &code).unwrap().name, build.name);
    }

    #[test]
    fn an_entry_that_leads_outside_is_refused_and_nothing_is_left() {
        for name in ["../evil", "/etc/evil", "a/../../evil", "..\\evil"] {
            let folder = tempfile::tempdir().unwrap();
            let inner = folder.path().join("inner");
            fs::create_dir(&inner).unwrap();
            let error =
                cache(&inner).unpack(Family::Python, &code(zipped(&[(name, b"x")]), "d")).unwrap_err();
            assert!(error.is_developers() && error.to_string().contains("outside"), "{name}: {error}");
            assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_bomb_is_refused_by_what_it_unpacks_to() {
        let folder = tempfile::tempdir().unwrap();
        let bomb = zipped(&[("__main__.py", &vec![0u8; 1 << 20])]);
        assert!(bomb.len() < 10_000);
        let error = cache(folder.path()).unpack(Family::Python, &code(bomb, "d")).unwrap_err();
        assert!(error.to_string().contains("more than 10000 bytes"), "{error}");
        let names: Vec<String> = (0..5).map(|n| format!("f{n}")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        let error = cache(folder.path()).unpack(Family::Python, &code(zipped(&many), "d")).unwrap_err();
        assert!(error.to_string().contains("entries"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn old_builds_make_room_unless_they_are_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        let build = |digest: &str| {
            let text = format!("#!{}", " ".repeat(4_000));
            cache.unpack(Family::Native, &code(text.into_bytes(), digest)).unwrap()
        };
        let first = build("one");
        drop(build("two"));
        drop(build("three"));
        assert!(cache.folder(&first).exists());
        assert!(!folder.path().join("native-binary-two").exists());
        assert!(folder.path().join("native-binary-three").exists());
    }

    #[test]
    fn what_is_not_an_archive_or_an_executable_is_the_developers_to_repair() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        for (family, bytes) in [
            (Family::Python, &b"print()"[..]),
            (Family::Nodejs, b"x"),
            (Family::Native, b"text"),
            (Family::Native, b""),
            (Family::Python, b"PK\x03\x04 and then nothing"),
        ] {
            let error = cache.unpack(family, &code(bytes.to_vec(), "d")).unwrap_err();
            assert!(matches!(error, StartError::BadCode { .. }), "{family}: {error}");
        }
    }
}
