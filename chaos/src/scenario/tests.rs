use super::*;

const GOOD: &str = "
name = 'good'
vms = 3
calm_s = 5
storm_s = 20
healthy_within_s = 10
[load]
short = 2
long = 1
durable_short = 1
durable_long = 1
short_ms = [10, 100]
long_ms = [1000, 2000]
[[faults]]
fault = 'notice_then_kill'
times = 3
notice_s = [0, 10]
";

#[test]
fn those_that_come_with_the_house_make_sense() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let read = Scenario::from_toml(&std::fs::read_to_string(&path).unwrap());
        assert!(read.is_ok(), "{}: {}", path.display(), read.unwrap_err());
        count += 1;
    }
    assert!(count >= 2, "{count} scenarios");
}

#[test]
fn whatever_makes_no_sense_is_named_with_what_was_expected() {
    assert!(Scenario::from_toml(GOOD).is_ok());
    for (was, is, expected) in [
        ("vms = 3", "vms = 0", "vms is 0, but expected is 1 to 1000"),
        ("name = 'good'", "name = 'a b'", "name is \"a b\", but expected is 1 to 40 letters"),
        ("storm_s = 20", "storm_s = 0", "storm_s is 0, but expected is 1 to 86400"),
        ("calm_s = 5", "calm_s = 4000", "calm_s is 4000, but expected is 1 to 3600"),
        ("healthy_within_s = 10", "healthy_within_s = 0", "healthy_within_s is 0"),
        ("short = 2", "short = 0", "load.short is 0, but expected is at least 1"),
        ("short_ms = [10, 100]", "short_ms = [100, 10]", "load.short_ms is [100, 10], but expected is [from"),
        ("times = 3", "times = 0", "faults[0].times is 0, but expected is 1 to 100000"),
        ("notice_s = [0, 10]", "", "faults[0].notice_s is not there, but expected is [from, to] in seconds"),
        ("notice_s = [0, 10]", "notice_s = [0, 20]", "faults[0].notice_s is [0, 20]"),
        ("times = 3", "times = 3\nlasts_s = [1, 2]", "faults[0].lasts_s is [1, 2], but expected is nothing"),
        ("'notice_then_kill'", "'kill'", "faults[0].notice_s is [0, 10], but expected is nothing"),
        ("'notice_then_kill'", "'delay'", "faults[0].notice_s is [0, 10], but expected is nothing"),
        (
            "'notice_then_kill'\ntimes = 3\nnotice_s = [0, 10]",
            "'delay'\ntimes = 3\nlasts_s = [1, 2]",
            "faults[0].delay_ms is not there, but expected is [from, to] within 1 to 10000",
        ),
        (
            "'notice_then_kill'\ntimes = 3\nnotice_s = [0, 10]",
            "'break'\ntimes = 3\nlasts_s = [1, 2]",
            "faults[0].every_ms is not there, but expected is [from, to] within 100 to 60000",
        ),
        (
            "'notice_then_kill'\ntimes = 3\nnotice_s = [0, 10]",
            "'clock_jump'\ntimes = 3\nlasts_s = [1, 2]",
            "faults[0].jump_s is not there, but expected is [from, to] within 1 to 864000",
        ),
        (
            "'notice_then_kill'\ntimes = 3\nnotice_s = [0, 10]",
            "'ill_metadata'\ntimes = 3\nlasts_s = [1, 2]",
            "faults[0].mood is not there, but expected is slow, absent",
        ),
        (
            "'notice_then_kill'\ntimes = 3\nnotice_s = [0, 10]",
            "'kill'\ntimes = 3\nby_metadata = true",
            "faults[0].by_metadata is true, but expected is nothing",
        ),
        (
            "vms = 3",
            "vms = 3\nhouse = { controllers = 0 }",
            "house.controllers is 0, but expected is 1 to 16",
        ),
        ("'notice_then_kill'", "'earthquake'", "expected one of `kill`, `notice_then_kill`"),
        ("vms = 3", "vms = 3\nvmz = 4", "unknown field `vmz`"),
    ] {
        let text = GOOD.replace(was, is);
        assert_ne!(text, GOOD, "{was}");
        let told = Scenario::from_toml(&text).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}\ndoes not contain\n{expected}");
    }
}
