//! Code that comes as a zip.

use std::io::Write;

use sandbox::{Family, StartError};

use crate::answers::compiled_echo;
use crate::harness::tests;
use crate::house::*;

tests![
    a_python_zip_has_modules_and_data,
    a_node_zip_names_its_entry_or_has_an_index,
    a_native_zip_has_an_exec,
    a_zip_that_leads_outside_is_refused,
    a_bomb_is_refused,
    a_zip_without_an_entry_point_is_the_developers_to_repair,
    large_code_runs,
];

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in entries {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

async fn a_python_zip_has_modules_and_data() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let code = zip(&[
            ("__main__.py", b"import helper.words as w\ndef main(args):\n    return {'w': w.word(), 'd': open('data.txt').read()}\n"),
            ("helper/__init__.py", b""),
            ("helper/words.py", b"def word():\n    return 'hi'\n"),
            ("data.txt", b"data"),
        ]);
        let mut sandbox = house.start(order(Family::Python, code, true)).await;
        assert_eq!(answer(&sandbox.run(run("{}")).await), r#"{"w":"hi","d":"data"}"#);
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn a_node_zip_names_its_entry_or_has_an_index() {
    let house = House::open().await;
    if !house.has(Family::Nodejs) {
        return;
    }
    let main = b"exports.main = () => ({ word: require('./lib/word') })".as_slice();
    let word = ("lib/word.js", b"module.exports = 'hi'".as_slice());
    let named = zip(&[("package.json", br#"{"main":"start.js"}"#), ("start.js", main), word]);
    let index = zip(&[("index.js", main), word]);
    let module = zip(&[
        ("package.json", br#"{"type":"module","main":"m.js"}"#),
        ("m.js", b"import word from './word.js'; export const main = () => ({ word })"),
        ("word.js", b"export default 'hi'"),
    ]);
    for code in [named, index, module] {
        let mut sandbox = house.start(order(Family::Nodejs, code, true)).await;
        assert_eq!(answer(&sandbox.run(run("{}")).await), r#"{"word":"hi"}"#);
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn a_native_zip_has_an_exec() {
    let house = House::open().await;
    let script =
        b"#!/bin/sh\nwhile read -r l; do echo \"{\\\"d\\\":\\\"$(cat data.txt)\\\"}\" >&3; done\n".as_slice();
    let code = zip(&[("exec", script), ("data.txt", b"data")]);
    let mut sandbox = house.start(order(Family::Native, code, true)).await;
    assert_eq!(answer(&sandbox.run(run("{}")).await), r#"{"d":"data"}"#);
    sandbox.stop().await;
    if let Some(program) = compiled_echo() {
        let mut sandbox = house.start(order(Family::Native, zip(&[("exec", &program)]), true)).await;
        assert_eq!(json(&sandbox.run(run("[7]")).await)["value"][0], 7);
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn a_zip_that_leads_outside_is_refused() {
    let house = House::open().await;
    for name in ["../../evil", "/tmp/evil-of-a-zip", "a/../../evil"] {
        let error =
            house.refused(order(Family::Native, zip(&[("exec", b"#!/bin/sh\n"), (name, b"x")]), true)).await;
        assert!(
            matches!(&error, StartError::BadCode { message } if message.contains("outside")),
            "{error:?}"
        );
    }
    assert!(!std::path::Path::new("/tmp/evil-of-a-zip").exists());
    house.workshop.close().await;
}

async fn a_bomb_is_refused() {
    let house = House::with(|settings| settings.unpacked_limit = 1 << 20).await;
    let error = house.refused(order(Family::Native, zip(&[("exec", &vec![0; 8 << 20])]), true)).await;
    assert!(error.is_developers() && error.to_string().contains("1048576"), "{error}");
    house.workshop.close().await;
}

async fn a_zip_without_an_entry_point_is_the_developers_to_repair() {
    let house = House::open().await;
    for (family, missing) in
        [(Family::Python, "__main__.py"), (Family::Nodejs, "index.js"), (Family::Native, "exec")]
    {
        if house.has(family) {
            let error = house.refused(order(family, zip(&[("other.txt", b"x")]), true)).await;
            assert!(error.is_developers() && error.to_string().contains(missing), "{error}");
        }
    }
    house.workshop.close().await;
}

async fn large_code_runs() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let code = format!("x = '{}'\ndef main(args):\n    return {{'n': len(x)}}\n", "y".repeat(5 << 20));
        let mut sandbox = house.python(&code).await;
        assert_eq!(json(&sandbox.run(run("{}")).await)["n"], 5 << 20);
        sandbox.stop().await;
    }
    house.workshop.close().await;
}
