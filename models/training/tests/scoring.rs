//! Models that we write, scored by the real ONNX Runtime. Skipped with a reason where there is none.

use std::path::PathBuf;

use models::features::{self, Column, Columns, Scale, Shown};
use models::{ModelError, OPTIONS_MAX, Places, Runtime, ScoreError, Scorer};
use tempfile::TempDir;
use training::{Mlp, model_bytes};

/// ONNX Runtime; nothing where it is not here, which is said.
fn runtime() -> Option<Runtime> {
    let mut places = Places::of_environment();
    // Tests run in the folder of their crate.
    places.data = Some(PathBuf::from("../../.windfall"));
    match Runtime::load(&places) {
        Ok(runtime) => Some(runtime),
        // Who names a library wants it tested.
        Err(error) if places.named.is_some() => panic!("{error}"),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// A folder with a file in it.
fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("allocator.onnx");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn load(runtime: &Runtime, bytes: &[u8], columns: Columns) -> Result<Scorer, ModelError> {
    let (_folder, path) = file(bytes);
    Scorer::load(runtime, &path, columns)
}

/// So many of these, with scales that differ.
fn columns(of_state: &[&'static str], of_option: &[&'static str]) -> Columns {
    let column = |(place, &name): (usize, &&'static str)| {
        let one = 1.0 + place as f32;
        Column { name, scale: Scale { one, full: one * 4.0 } }
    };
    Columns {
        of_state: of_state.iter().enumerate().map(column).collect(),
        of_option: of_option.iter().enumerate().map(column).collect(),
    }
}

fn three() -> Columns {
    columns(&["load", "room"], &["option"])
}

fn small() -> Mlp {
    Mlp::seeded(&[3, 8, 4, 1], 42)
}

/// Different values, from 0 to the ends of their scales.
fn shown(columns: &Columns, options: usize) -> Shown {
    let shares = (0..).map(|i| (i * 37 % 101) as f32 / 100.0);
    let once = columns.of_state.iter();
    let often = std::iter::repeat_n(&columns.of_option, options).flatten();
    let mut values = once.chain(often).zip(shares).map(|(column, share)| column.scale.full * share);
    Shown { state: values.by_ref().take(columns.of_state.len()).collect(), options: values.collect() }
}

#[test]
fn onnx_runtime_scores_values_as_they_are_as_our_own_forward_pass_scores_scaled_ones() {
    let Some(runtime) = runtime() else { return };
    for columns in [three(), features::OURS.columns(), features::FREYR.columns()] {
        let width = columns.names().len();
        for (hidden, seed) in [(vec![32, 16], 1), (vec![64, 64], 2), (vec![], 3), (vec![32], 4)] {
            let network = Mlp::seeded(&[&[width], &hidden[..], &[1]].concat(), seed);
            let mut scorer = load(&runtime, &model_bytes(&network, &columns), columns.clone()).unwrap();
            let mut scores = vec![9.0; 3];
            for options in [1, 2, 64, 640, OPTIONS_MAX] {
                let shown = shown(&columns, options);
                scorer.score(&shown, &mut scores).unwrap();
                let own = network.forward(&columns.scaled(&shown));
                assert_eq!((scores.len(), own.len()), (options, options));
                for (theirs, ours) in scores.iter().zip(&own) {
                    // Its tanh is an approximation, good to about the last two bits.
                    assert!((theirs - ours).abs() < 1e-5, "{hidden:?}, seed {seed}: {theirs} and {ours}");
                }
            }
        }
    }
}

#[test]
fn the_models_of_the_repository_are_what_their_weights_are_written_as_today() {
    for (file, set) in [("allocator.onnx", &features::OURS), ("freyr-size.onnx", &features::FREYR)] {
        let bytes = std::fs::read(PathBuf::from("..").join(file)).unwrap();
        let (network, names) = training::read_model(&bytes).unwrap();
        assert_eq!(names, set.columns().names());
        assert!(bytes == model_bytes(&network, &set.columns()), "{file} must be written again");
    }
}

#[test]
fn what_was_written_is_read_back_and_what_was_not_is_refused() {
    let columns = features::FREYR.columns();
    let network = Mlp::seeded(&[11, 32, 16, 1], 6);
    let bytes = model_bytes(&network, &columns);
    let (read, names) = training::read_model(&bytes).unwrap();
    assert_eq!(read, network);
    assert_eq!(names, columns.names());
    for length in 0..bytes.len() {
        // A file that ends between two fields may still have all that is needed.
        let _ = training::read_model(&bytes[..length]);
    }
    assert!(training::read_model(b"something else").is_err() && training::read_model(&[]).is_err());
}

#[test]
fn what_is_not_a_number_is_refused_by_name_and_the_next_is_scored() {
    let Some(runtime) = runtime() else { return };
    let columns = columns(&["load"], &["room", "option"]);
    let mut scorer = load(&runtime, &model_bytes(&small(), &columns), columns.clone()).unwrap();
    let mut scores = Vec::new();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut of_option = shown(&columns, 4);
        of_option.options[5] = bad;
        let mut of_state = shown(&columns, 4);
        of_state.state[0] = bad;
        for (shown, said) in
            [(of_option, "feature 'option' of option 2"), (of_state, "feature 'load' of the state")]
        {
            let refused = scorer.score(&shown, &mut scores).unwrap_err();
            assert!(matches!(&refused, ScoreError::BadFeature { .. }), "{refused}");
            assert!(refused.to_string().contains(said), "{refused}");
            assert!(scores.is_empty());
        }
    }
    scorer.score(&shown(&columns, 4), &mut scores).unwrap();
    assert_eq!(scores.len(), 4);
}

#[test]
fn half_a_vector_none_and_too_many_are_refused() {
    let Some(runtime) = runtime() else { return };
    let columns = columns(&["load"], &["room", "option"]);
    let mut scorer = load(&runtime, &model_bytes(&small(), &columns), columns).unwrap();
    let mut scores = Vec::new();
    for (state, options) in [(1, 0), (1, 1), (1, 3), (1, 2 * (OPTIONS_MAX + 1)), (0, 2), (2, 2)] {
        let shown = Shown { state: vec![0.5; state], options: vec![0.5; options] };
        let refused = scorer.score(&shown, &mut scores).unwrap_err();
        assert!(matches!(refused, ScoreError::Shape { .. }), "{state}, {options}: {refused}");
    }
}

#[test]
fn a_network_whose_scores_are_not_numbers_is_found_out() {
    let Some(runtime) = runtime() else { return };
    // Every weight near the end of what an f32 holds: their sum is beyond it.
    let network = Mlp::seeded(&[3, 1], 5);
    let mut bytes = model_bytes(&network, &three());
    for weight in &network.layers()[0].weights {
        let at = find(&bytes, &weight.to_le_bytes());
        bytes[at..at + 4].copy_from_slice(&f32::MAX.to_le_bytes());
    }
    let mut scorer = load(&runtime, &bytes, three()).unwrap();
    let mut scores = Vec::new();
    let refused = scorer.score(&shown(&three(), 1), &mut scores).unwrap_err();
    assert!(matches!(refused, ScoreError::BadScore { option: 0, .. }), "{refused}");
    assert!(scores.is_empty());
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

#[test]
fn a_missing_file_a_folder_and_a_huge_file_are_refused() {
    let Some(runtime) = runtime() else { return };
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none.onnx"), folder.path().to_path_buf()] {
        let refused = Scorer::load(&runtime, &path, three()).unwrap_err();
        assert!(matches!(refused, ModelError::Unreadable { .. }), "{refused}");
        assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
    }
    let huge = folder.path().join("huge.onnx");
    std::fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    let refused = Scorer::load(&runtime, &huge, three()).unwrap_err();
    assert!(matches!(refused, ModelError::TooLarge { .. }), "{refused}");
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let Some(runtime) = runtime() else { return };
    let whole = model_bytes(&small(), &three());
    for length in 0..whole.len() {
        let refused = load(&runtime, &whole[..length], three()).unwrap_err();
        assert!(
            matches!(refused, ModelError::Damaged { .. } | ModelError::Mismatch { .. }),
            "{length}: {refused}"
        );
    }
}

#[test]
fn a_file_with_any_byte_changed_is_refused_or_still_scores_numbers() {
    let Some(runtime) = runtime() else { return };
    if runtime.path() == std::path::Path::new(models::TRACT) {
        return println!(
            "skipped: tract ends the process over some damaged files, as `models::Runtime` says"
        );
    }
    let whole = model_bytes(&small(), &three());
    let (mut refused, mut taken) = (0, 0);
    for at in 0..whole.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= change;
            match load(&runtime, &damaged, three()) {
                Err(_) => refused += 1,
                Ok(mut scorer) => {
                    taken += 1;
                    let mut scores = Vec::new();
                    let scored = scorer.score(&shown(&three(), 4), &mut scores);
                    assert!(scored.is_err() || scores.iter().all(|score| score.is_finite()));
                }
            }
        }
    }
    assert!(refused > 100 && taken > 100, "{refused} refused, {taken} taken");
}

#[test]
fn a_model_of_another_shape_or_for_other_features_is_refused_with_both_named() {
    let Some(runtime) = runtime() else { return };
    let four = |of_state, of_option| model_bytes(&Mlp::seeded(&[4, 8, 1], 1), &columns(of_state, of_option));
    let two_scores = model_bytes(&Mlp::seeded(&[3, 8, 2], 1), &three());
    let renamed = model_bytes(&small(), &columns(&["load", "room"], &["moon"]));
    for (bytes, said) in [
        (four(&["load", "room", "moon"], &["option"]), "input 'state' is"),
        (four(&["load", "room"], &["option", "moon"]), "input 'options' is"),
        (two_scores, "output 'scores' is"),
        (renamed, "made for the features 'load,room,moon'"),
    ] {
        let refused = load(&runtime, &bytes, three()).unwrap_err();
        assert!(matches!(refused, ModelError::Mismatch { .. }), "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
    }
}

#[test]
fn a_model_of_another_operator_set_or_with_other_names_is_refused() {
    let Some(runtime) = runtime() else { return };
    let whole = model_bytes(&small(), &three());
    // The operator set is its version in an embedded message of two fields, of which the first is empty and left out:
    // field 8, length 2, field 2, the version.
    let mut old = whole.clone();
    let at = find(&old, &[0x42, 2, 0x10, 17]);
    old[at + 3] = 12;
    let mut elsewhere = whole.clone();
    while let Some(at) = elsewhere.windows(7).position(|window| window == b"options") {
        elsewhere[at..at + 7].copy_from_slice(b"choices");
    }
    let mut ort_format = whole.clone();
    ort_format[4..8].copy_from_slice(b"ORTM");
    for (bytes, said) in
        [(old, "operator set is 12"), (elsewhere, "called 'choices'"), (ort_format, "ORT file")]
    {
        let refused = load(&runtime, &bytes, three()).unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
    }
}

#[test]
fn whoever_asks_later_gets_the_runtime_that_is_loaded() {
    let Some(runtime) = runtime() else { return };
    let elsewhere = Places { named: Some("/nowhere/libonnxruntime.so".into()), ..Places::default() };
    let again = Runtime::load(&elsewhere).unwrap();
    assert_eq!((again.version(), again.path()), (runtime.version(), runtime.path()));
    let version = runtime.version();
    assert!(version.starts_with("1.") || version == models::TRACT, "{version}");
}

#[test]
fn scorers_on_several_threads_do_not_disturb_one_another() {
    let Some(runtime) = runtime() else { return };
    let bytes = model_bytes(&small(), &three());
    let question = shown(&three(), 64);
    let expected = small().forward(&three().scaled(&question));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mut scorer = load(&runtime, &bytes, three()).unwrap();
                let mut scores = Vec::new();
                for _ in 0..200 {
                    scorer.score(&question, &mut scores).unwrap();
                    assert!(scores.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
                }
            });
        }
    });
}

/// ONNX's own judge, which is stricter than ONNX Runtime. Skipped where Python has no package `onnx`.
#[test]
fn the_file_is_what_the_onnx_checker_wants() {
    let python = std::env::var_os("WINDFALL_PYTHON").unwrap_or_else(|| "python3".into());
    let run = |program: &str, path: &str| {
        let mut command = std::process::Command::new(&python);
        command.args(["-c", program, path]).output()
    };
    if !run("import onnx", "").is_ok_and(|output| output.status.success()) {
        return println!("skipped: no Python with the package onnx (WINDFALL_PYTHON names one)");
    }
    let (_folder, path) = file(&model_bytes(&small(), &three()));
    let check = "import onnx, sys; onnx.checker.check_model(onnx.load(sys.argv[1]), full_check=True)";
    let checked = run(check, path.to_str().unwrap()).unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
