//! Which hierarchies this machine has, and where our groups start in them.
//!
//! **Knows:** `/proc/self/mountinfo` and `/proc/self/cgroup`.
//! **Promises:** every controller is looked for where it is mounted, v1 first: a machine in hybrid mode has
//! a v2 tree too, but without the controllers that matter.
//! **Gives up:** mounting anything. What is not mounted is not there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::HOUSE;

/// What a hierarchy can limit or count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Controller {
    /// CPU quota and shares.
    Cpu,
    /// CPU time (part of `Cpu` in v2).
    CpuAccounting,
    /// Memory.
    Memory,
    /// The number of processes and threads.
    Pids,
    /// Stopping everything in a group (part of every group in v2).
    Freezer,
}

impl Controller {
    /// Those that every group of ours wants. The v1 freezer is entered only when it is needed.
    pub(super) const WANTED: [Controller; 4] = [Self::Cpu, Self::CpuAccounting, Self::Memory, Self::Pids];

    fn v1_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CpuAccounting => "cpuacct",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
        }
    }

    fn v2_name(self) -> Option<&'static str> {
        match self {
            Self::Cpu => Some("cpu"),
            Self::Memory => Some("memory"),
            Self::Pids => Some("pids"),
            Self::CpuAccounting | Self::Freezer => None,
        }
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where our paths start.
    pub(super) base: PathBuf,
    /// Our own group, from the base.
    pub(super) own: String,
    pub(super) is_v2: bool,
    pub(super) controllers: Vec<Controller>,
}

/// All hierarchies that have something we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    pub(super) all: Vec<Hierarchy>,
}

impl Hierarchies {
    /// Finds them. Fails only if `/proc` cannot be read; finding none is not a failure.
    pub fn find() -> io::Result<Arc<Hierarchies>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Ok(Arc::new(Self::from_texts(&mounts, &own, &offered_by_v2, &is_delegated)))
    }

    fn from_texts(
        mounts: &str,
        own: &str,
        offered: &dyn Fn(&Path) -> Vec<String>,
        delegated: &dyn Fn(&Path) -> bool,
    ) -> Self {
        let mut all = Vec::<Hierarchy>::new();
        let mut v2 = None;
        for mount in mounts.lines().filter_map(Mount::parse) {
            match mount.file_system {
                "cgroup" => {
                    let mut controllers = Vec::new();
                    for controller in Controller::WANTED.into_iter().chain([Controller::Freezer]) {
                        let is_mounted = mount.options.split(',').any(|o| o == controller.v1_name());
                        let is_taken = all.iter().any(|h| h.controllers.contains(&controller));
                        if is_mounted && !is_taken {
                            controllers.push(controller);
                        }
                    }
                    let Some(first) = controllers.first() else { continue };
                    let path = own_path(own, Some(first.v1_name()), &mount.root);
                    let (base, own) = split_at_house(&path).unwrap_or((&path, ""));
                    all.push(Hierarchy {
                        base: mount.point.join(base),
                        own: own.to_owned(),
                        is_v2: false,
                        controllers,
                    });
                }
                "cgroup2" if v2.is_none() => v2 = Some(mount),
                _ => {}
            }
        }
        if let Some(mount) = v2 {
            let path = own_path(own, None, &mount.root);
            let (base, own) = split_at_house(&path)
                .unwrap_or_else(|| if delegated(&mount.point.join(&path)) { (&path, "") } else { ("", "") });
            let base = mount.point.join(base);
            let offered = offered(&base);
            let has = |controller: Controller| all.iter().any(|h| h.controllers.contains(&controller));
            let mut controllers: Vec<Controller> = Controller::WANTED
                .into_iter()
                .filter(|c| !has(*c) && c.v2_name().is_some_and(|name| offered.iter().any(|o| o == name)))
                .collect();
            if controllers.contains(&Controller::Cpu) && !has(Controller::CpuAccounting) {
                controllers.push(Controller::CpuAccounting);
            }
            if !controllers.is_empty() {
                if !has(Controller::Freezer) {
                    controllers.push(Controller::Freezer);
                }
                all.push(Hierarchy { base, own: own.to_owned(), is_v2: true, controllers });
            }
        }
        Self { all }
    }

    /// Whether `controller` is there.
    pub fn has(&self, controller: Controller) -> bool {
        self.with(controller).is_some()
    }

    /// Whether limits on CPU are those of v2.
    pub fn is_v2(&self) -> bool {
        self.with(Controller::Cpu).or(self.all.first()).is_some_and(|hierarchy| hierarchy.is_v2)
    }

    pub(super) fn with(&self, controller: Controller) -> Option<&Hierarchy> {
        self.all.iter().find(|hierarchy| hierarchy.controllers.contains(&controller))
    }

    /// Our own group: the longest path that any hierarchy has us in.
    pub(super) fn own(&self) -> &str {
        self.all.iter().map(|h| h.own.as_str()).max_by_key(|own| own.len()).unwrap_or("")
    }
}

impl Hierarchy {
    /// Where the group `path` is.
    pub(super) fn folder(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.base.clone() } else { self.base.join(path) }
    }

    /// What must be switched on in a group's parent so that the group can be limited (v2).
    pub(super) fn names_to_enable(&self) -> impl Iterator<Item = &'static str> {
        self.controllers.iter().filter_map(|controller| controller.v2_name())
    }
}

/// One line of `/proc/self/mountinfo`.
struct Mount<'a> {
    root: String,
    point: PathBuf,
    file_system: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let root = unescaped(left.next()?);
        let point = PathBuf::from(unescaped(left.next()?));
        let mut right = right.split(' ');
        Some(Self { root, point, file_system: right.next()?, options: right.nth(1)? })
    }
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    let mut text = text.to_owned();
    for (escaped, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(escaped, plain);
    }
    text
}

/// Our own path in the hierarchy with v1 controller `name` (or v2), seen from the root of its mount, without
/// slashes at its ends.
fn own_path(own: &str, name: Option<&str>, root: &str) -> String {
    let path = own
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?, parts.next()?))
        })
        .find(|(names, _)| name.map_or(names.is_empty(), |name| names.split(',').any(|n| n == name)))
        .map_or("", |(_, path)| path);
    let root = root.trim_end_matches('/');
    match path.strip_prefix(root) {
        Some(inner) if inner.is_empty() || inner.starts_with('/') => inner.trim_matches('/').to_owned(),
        _ => String::new(),
    }
}

/// Splits a path before its first part named as the house.
fn split_at_house(path: &str) -> Option<(&str, &str)> {
    let mut start = 0;
    for part in path.split('/') {
        if part == HOUSE {
            return Some((path[..start].trim_end_matches('/'), &path[start..]));
        }
        start += part.len() + 1;
    }
    None
}

fn offered_by_v2(base: &Path) -> Vec<String> {
    let text = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(String::from).collect()
}

/// Whether a v2 group has been given to us: systemd marks what it delegates to root, and gives what it
/// delegates to a user to that user.
fn is_delegated(folder: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = fs::metadata(folder.join("cgroup.subtree_control")) else { return false };
    // SAFETY: takes no argument.
    let our_uid = unsafe { libc::geteuid() };
    if our_uid != 0 {
        return metadata.uid() == our_uid;
    }
    let Ok(path) = std::ffi::CString::new(folder.as_os_str().as_bytes()) else { return false };
    let mut value = [0u8; 1];
    // SAFETY: both strings end with a zero byte and the buffer is as long as said.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), c"trusted.delegate".as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    length == 1 && value[0] == b'1'
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/1 /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory
38 31 0:33 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn nothing_offered(_: &Path) -> Vec<String> {
        vec!["hugetlb".into()]
    }

    fn everything_offered(_: &Path) -> Vec<String> {
        ["cpuset", "cpu", "io", "memory", "pids"].map(String::from).to_vec()
    }

    #[test]
    fn on_v1_our_groups_start_where_we_were_started() {
        let own = "5:memory:/docker/1/deep\n2:cpu,cpuacct:/\n0::/\n";
        let found = Hierarchies::from_texts(V1, own, &nothing_offered, &|_| false);
        assert_eq!(found.all.len(), 3); // The v2 tree of this hybrid offers nothing of use.
        let memory = found.with(Controller::Memory).unwrap();
        assert_eq!(memory.folder("windfall/vm-1"), Path::new("/sys/fs/cgroup/memory/deep/windfall/vm-1"));
        let cpu = found.with(Controller::CpuAccounting).unwrap();
        assert_eq!(cpu.folder("windfall"), Path::new("/sys/fs/cgroup/cpu,cpuacct/windfall"));
        assert!(!found.has(Controller::Pids));
        assert_eq!(found.own(), "");
    }

    #[test]
    fn who_is_inside_the_house_finds_the_same_base() {
        let own = "5:memory:/docker/1/deep/windfall/vm-1/agent\n2:cpu,cpuacct:/windfall/vm-1/agent\n";
        let found = Hierarchies::from_texts(V1, own, &nothing_offered, &|_| false);
        let memory = found.with(Controller::Memory).unwrap();
        assert_eq!(memory.folder("windfall/vm-1"), Path::new("/sys/fs/cgroup/memory/deep/windfall/vm-1"));
        assert_eq!(found.own(), "windfall/vm-1/agent");
    }

    #[test]
    fn on_v2_our_groups_start_at_what_was_delegated_else_at_the_root() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/system.slice/windfall.service\n";
        for (delegated, base) in
            [(true, "/sys/fs/cgroup/system.slice/windfall.service"), (false, "/sys/fs/cgroup")]
        {
            let found = Hierarchies::from_texts(mounts, own, &everything_offered, &|_| delegated);
            let cpu = found.with(Controller::Cpu).unwrap();
            assert!(cpu.is_v2);
            assert_eq!(cpu.folder("windfall"), Path::new(base).join("windfall"));
            assert!(found.has(Controller::CpuAccounting) && found.has(Controller::Freezer));
        }
    }

    #[test]
    fn a_path_outside_of_the_mount_is_its_root() {
        assert_eq!(own_path("5:memory:/other/place\n", Some("memory"), "/docker/1"), "");
        assert_eq!(own_path("5:memory:/docker/12\n", Some("memory"), "/docker/1"), "");
        assert_eq!(own_path("5:memory:/docker/1\n", Some("memory"), "/docker/1"), "");
    }
}
