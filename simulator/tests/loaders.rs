//! Tables of others: good ones are read for what they say, bad ones are refused with file, line and what to do.

use std::io::Write;
use std::path::{Path, PathBuf};

use simulator::machines::{Lifetime, MEMORY_PER_CORE, Spot, Steps};
use simulator::workload::{Assumptions, Azure2019, Events, Freyr, Selection, Subset, TraceError, Workload};
use vocabulary::{Moment, Span};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Every call: (microseconds, function's name, duration with its reservation).
fn calls(mut workload: Workload) -> Vec<(u64, String, Span)> {
    let mut calls = Vec::new();
    while let Some(at) = workload.calls.next_at() {
        let call = workload.calls.take();
        let plan = &workload.functions[call.function as usize];
        calls.push((at.0, plan.name.clone(), call.work.io + call.work.cpu));
    }
    calls
}

fn at_once() -> Selection {
    Selection { begins: Span::ZERO, ..Selection::default() }
}

fn played(events: &Events, selection: &Selection) -> Vec<(u64, String, Span)> {
    calls(events.workload(selection, &Assumptions::default(), 1).unwrap())
}

#[test]
fn a_trace_of_events_is_played_as_it_stands() {
    let events = Events::read(&fixture("events.csv")).unwrap();
    let played = played(&events, &at_once());
    let expected = [
        (500_000, "resize", 120_000),
        (500_000, "hello", 20),
        (59_900_000, "resize", 80_500),
        (60_000_000, "hello", 1_000),
        (130_250_000, "nightly", 700_000_000),
    ];
    let expected = expected.map(|(at, name, micros)| (at, name.to_owned(), Span(micros)));
    assert_eq!(played, expected);
}

#[test]
fn minutes_functions_and_a_cap_can_be_chosen() {
    let events = Events::read(&fixture("events.csv")).unwrap();
    let of = |selection: Selection| {
        let played = played(&events, &selection);
        played.into_iter().map(|(at, name, _)| format!("{}:{name}", at / 1_000_000)).collect::<Vec<_>>()
    };
    assert_eq!(of(Selection { minutes: Some(1..3), ..at_once() }), ["0:hello", "70:nightly"]);
    assert_eq!(of(Selection { functions: Subset::MostCalled(1), ..at_once() }), ["0:resize", "59:resize"]);
    assert_eq!(of(Selection { calls_max: Some(2), ..at_once() }), ["0:resize", "0:hello"]);
    assert_eq!(of(Selection { minute: Span::seconds(1), ..at_once() }).last().unwrap(), "2:nightly");
    assert_eq!(of(Selection { rate: 2.0, ..at_once() }).len(), 10);
    let error = events.workload(&Selection::minutes(7..8), &Assumptions::default(), 1).err().unwrap();
    assert!(error.to_string().contains("nothing is left"), "{error}");
}

#[test]
fn azures_format_of_2021_tells_ends_and_is_played_from_beginnings() {
    let events = Events::read_azure2021(&fixture("azure2021.csv")).unwrap();
    assert_eq!(events.counts(), (3, 2));
    let played = played(&events, &at_once());
    let seen: Vec<(u64, &str)> = played.iter().map(|(at, name, _)| (*at, name.as_str())).collect();
    assert_eq!(seen, [(0, "f1"), (2_000, "f2"), (12_249_000, "f1"), (59_499_000, "f3")]);
    assert_eq!(played[1].2, Span(57_154_000));
}

#[test]
fn compressed_or_not_a_table_is_the_same() {
    let plain = std::fs::read(fixture("events.csv")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.csv.gz");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&plain).unwrap();
    std::fs::write(&path, gzip.finish().unwrap()).unwrap();
    let (compressed, plain) = (Events::read(&path).unwrap(), Events::read(&fixture("events.csv")).unwrap());
    assert_eq!(compressed.events(), plain.events());
}

#[test]
fn a_set_of_cores_is_found_in_its_file() {
    let plans = Steps::read(&fixture("cores.csv"), Some("lively")).unwrap().plans(MEMORY_PER_CORE, None);
    assert_eq!(plans.len(), 2);
    assert_eq!(plans[0].changes[0].0, Moment(130_000_000));
    assert_eq!(plans[0].changes[0].1.cpu.0, 6_000);
}

/// What is said of a file with this content.
fn said<T>(name: &str, content: &[u8], read: impl Fn(&Path) -> Result<T, TraceError>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let error = read(&path).err().expect("a bad file was read").to_string();
    assert!(error.contains(name), "'{error}' does not name the file");
    error
}

/// Each (content, what must be said).
fn are_refused<T>(bad: &[(&[u8], &str)], read: impl Fn(&Path) -> Result<T, TraceError>) {
    for (content, says) in bad {
        let error = said("bad.csv", content, &read);
        assert!(error.contains(says), "'{error}' does not say '{says}'");
    }
}

#[test]
fn bad_events_are_refused_with_their_line() {
    are_refused(
        &[
            (b"", "is empty"),
            (b"t_s,func_id,duration_ms\n", "has a header and no rows"),
            (b"t_s,function,duration_ms\n1,f,1\n", "line 1: there is no column 'func_id'"),
            (b"t_s,func_id,duration_ms\n1,f,1\n0.5,f,1\n", "line 3: t_s '0.5' is earlier"),
            (b"t_s,func_id,duration_ms\n-1,f,1\n", "line 2: t_s '-1' is negative"),
            (b"t_s,func_id,duration_ms\n1,f,NaN\n", "line 2: duration_ms 'NaN' is not a number"),
            (b"t_s,func_id,duration_ms\n1,f,inf\n", "line 2: duration_ms 'inf' is not a number"),
            (b"t_s,func_id,duration_ms\n1,f,soon\n", "line 2: duration_ms 'soon' is not a number"),
            (b"t_s,func_id,duration_ms\n1,,5\n", "line 2: func_id '' is empty"),
            (b"t_s,func_id,duration_ms\n1,f,1\n2,f\n", "line 3: the row has 2 fields and the header 3"),
            (b"t_s,func_id,duration_ms\n1,f\xff,1\n", "line 2: field 2 is not UTF-8"),
            (b"t_s,func_id,dur\xff\n1,f,1\n", "line 1: field 3 is not UTF-8"),
        ],
        Events::read,
    );
}

#[test]
fn bad_tables_of_2021_are_refused_with_their_line() {
    are_refused(
        &[
            (b"app,func,end_timestamp\na,f,1\n", "there is no column 'duration'"),
            (b"app,func,end_timestamp,duration\na,f,1,-2\n", "line 2: duration '-2' is negative"),
            (b"app,func,end_timestamp,duration\n,f,1,2\n", "line 2: app '' is empty"),
        ],
        Events::read_azure2021,
    );
}

#[test]
fn bad_series_of_cores_are_refused_with_their_line() {
    are_refused(
        &[
            (b"trace_set,vm,t_s,cores\nlively,1,0,4\nlively,1,0,5\n", "line 3: t_s '0' is not later"),
            (b"trace_set,vm,t_s,cores\nlively,1,0,-4\n", "line 2: cores '-4' is negative"),
            (b"trace_set,vm,t_s,cores\nlively,1,0,1e9\n", "is more than any machine has"),
            (b"trace_set,vm,t_s,cores\ncalm,1,0,4\n", "there is no set 'lively'"),
            (b"vm,t_s,cores\n1,0,4\n", "there is no column 'trace_set'"),
        ],
        |file| Steps::read(file, Some("lively")),
    );
}

#[test]
fn damaged_compression_is_refused() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(b"t_s,func_id,duration_ms\n").unwrap();
    // Incompressible enough to be cut in the middle of the rows.
    for row in 0..5_000_u64 {
        let number = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        writeln!(gzip, "{row},f{number},{number}").unwrap();
    }
    let whole = gzip.finish().unwrap();
    let cut = said("cut.csv.gz", &whole[..whole.len() / 2], Events::read);
    assert!(cut.contains("reading broke off") && cut.contains("line "), "{cut}");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
    said("flipped.csv.gz", &flipped, Events::read);
    let named = said("plain.csv.gz", b"t_s,func_id,duration_ms\n1,f,1\n", Events::read);
    assert!(named.contains("not compressed with gzip"), "{named}");
}

#[test]
fn a_file_that_is_not_there_is_said_with_its_path() {
    let error = Events::read(Path::new("no/such/trace.csv")).err().unwrap().to_string();
    assert!(error.starts_with("no/such/trace.csv: cannot be read"), "{error}");
}

fn azure() -> Azure2019 {
    Azure2019::read(&fixture("functions.csv"), &fixture("counts.csv")).unwrap()
}

#[test]
fn a_table_of_counts_becomes_calls_in_their_minutes() {
    let trace = azure();
    assert_eq!((trace.len(), trace.minutes(), trace.calls()), (3, &[7, 8, 9][..], 163));
    let workload = trace.workload(&at_once(), &Assumptions::default(), 1).unwrap();
    let apps: Vec<u32> = workload.functions.iter().map(|function| function.app).collect();
    assert_eq!(apps, [0, 0, 1]);
    // The next multiple of 128 MiB above the largest use; 256 where it was not measured.
    let memory: Vec<u32> =
        workload.functions.iter().map(|function| function.card.reservation.memory.0).collect();
    assert_eq!(memory, [128, 256, 256]);
    let played = calls(workload);
    let count = |name: &str, minute: u64| {
        played.iter().filter(|(at, of, _)| of == name && at / 60_000_000 == minute).count()
    };
    assert_eq!([count("0", 0), count("0", 1), count("0", 2)], [100, 0, 50]);
    assert_eq!([count("1", 0), count("1", 1), count("1", 2)], [1, 1, 1]);
    assert_eq!(count("2", 2), 10);
    assert!(played.is_sorted_by_key(|(at, ..)| *at));
    for (_, name, duration) in &played {
        match name.as_str() {
            "0" => assert!((10_000..=60_000).contains(&duration.0), "{duration}"),
            "1" => assert_eq!(*duration, Span::seconds(1)),
            _ => assert!(duration.0 <= 9_010, "{duration}"),
        }
    }
}

#[test]
fn what_is_left_out_of_a_table_does_not_change_what_is_left() {
    let play = |selection: Selection, seed| {
        calls(azure().workload(&selection, &Assumptions::default(), seed).unwrap())
    };
    let all = play(at_once(), 1);
    let of = |name: &str| all.iter().filter(|(_, of, _)| of == name).cloned().collect::<Vec<_>>();
    assert_eq!(play(Selection { functions: Subset::MostCalled(1), ..at_once() }, 1), of("0"));
    let marked = play(Selection { functions: Subset::Marked("in_small".into()), ..at_once() }, 1);
    assert_eq!(marked.len(), of("0").len() + of("2").len());
    let minute_9 = play(Selection { minutes: Some(9..10), ..at_once() }, 1);
    let expected = all.iter().filter(|(at, ..)| *at >= 120_000_000);
    let expected: Vec<_> = expected.map(|(at, name, span)| (at - 120_000_000, name.clone(), *span)).collect();
    assert_eq!(minute_9, expected);
    assert_eq!(play(at_once(), 1), all, "one seed, one play");
    assert_ne!(play(at_once(), 2), all);
}

#[test]
fn bad_tables_of_functions_are_refused_with_their_line() {
    let good = std::fs::read_to_string(fixture("functions.csv")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from));
        good.replace(from, to).into_bytes()
    };
    are_refused(
        &[
            (&with("dur_p50_ms", "median"), "there is no column 'dur_p50_ms' or 'percentile_Average_50'"),
            (&with("20,30,40", "20,19,40"), "line 2: dur_p50_ms '19' is below the percentile before"),
            (&with("35,48,67", "35,x,67"), "line 2: mem_p50_mb 'x' is not a number"),
            (&with("\n1,a", "\n0,a"), "line 3: func_id '0' has a row already"),
            (&with("\n2,b", "\n7,b"), "line 4: func_id '2' is not in the table of functions"),
        ],
        |file| {
            let counts = fixture("counts.csv");
            Azure2019::read(file, &counts).map_err(|error| {
                // The last one is said of the other table, with advice that names this one.
                TraceError { file: file.to_owned(), ..error }
            })
        },
    );
}

#[test]
fn bad_tables_of_counts_are_refused_with_their_line() {
    are_refused(
        &[
            (b"func_id,7,8\n0,1,2.5\n", "line 2: 8 '2.5' is not a whole number"),
            (b"func_id,7,8\n0,1,-2\n", "line 2: 8 '-2' is negative"),
            (b"func_id,8,7\n0,1,2\n", "its minutes are missing or out of order"),
            (b"func_id,calls\n0,1\n", "its minutes are missing or out of order"),
            (b"func_id,7,8\n0,1,2\n0,1,2\n", "line 3: func_id '0' has a row already"),
        ],
        |file| Azure2019::read(&fixture("functions.csv"), file),
    );
}

#[test]
fn bad_tables_of_lives_and_offers_are_refused_with_their_line() {
    are_refused(
        &[
            (b"lifetime_s,end_event\n5,lost\n", "line 2: end_event 'lost' is not known"),
            (b"lifetime_s,end_event\n5,user_stop\n", "tells of no preempted VM"),
            (b"lifetime_s,end_event\nlong,preempted\n", "line 2: lifetime_s 'long' is not a number"),
        ],
        Lifetime::read_preemptible,
    );
    are_refused(
        &[
            (
                b"savings_pct,interruption_monthly\n56,never\n",
                "line 2: interruption_monthly 'never' is no band",
            ),
            (b"savings_pct,interruption_monthly\n156,<5%\n", "line 2: savings_pct '156' is more than all"),
        ],
        Spot::read,
    );
}

#[test]
fn bad_tables_of_freyrs_arrivals_are_refused_with_their_line() {
    let slots = |count: usize| (1..=count).map(|slot| slot.to_string()).collect::<Vec<_>>().join(",");
    let row = |name: &str| format!("{name}{}\n", ",0".repeat(60));
    let header = format!("HashFunction,{}\n", slots(60));
    are_refused(
        &[
            (format!("HashFunction,{}\ndh\n", slots(59)).as_bytes(), "has 59 numbered columns"),
            (
                format!("{header}{}", row("xy")).as_bytes(),
                "line 2: HashFunction 'xy' is none of Freyr's functions",
            ),
            (format!("{header}{}{}", row("dh"), row("dh")).as_bytes(), "line 3: HashFunction 'dh' has a row"),
            (format!("{header}{}", row("dh")).as_bytes(), "has no row for 'eg'"),
        ],
        Freyr::read,
    );
}
