//! The least of a test harness: lists, filters, runs one after the other.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::Instant;

/// A test's name and its body.
pub type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// The names and bodies of asynchronous functions.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub fn tests() -> Vec<crate::harness::Test> {
            vec![$((concat!(module_path!(), "::", stringify!($name)), || Box::pin($name()))),*]
        }
    };
}
pub(crate) use tests;

/// Does what the command line says; returns the exit code.
pub fn run(tests: &[Test]) -> i32 {
    let mut filters = Vec::new();
    let mut skips = Vec::new();
    let (mut list, mut exact, mut ignored) = (false, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => list = true,
            "--exact" => exact = true,
            "--ignored" => ignored = true,
            "--skip" => skips.extend(arguments.next()),
            "--format" | "--test-threads" | "--color" | "--logfile" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            _ => filters.push(argument),
        }
    }
    let matches = |name: &str, filter: &String| if exact { name == filter } else { name.contains(filter) };
    let chosen = tests.iter().filter(|(name, _)| {
        !ignored
            && (filters.is_empty() || filters.iter().any(|filter| matches(name, filter)))
            && !skips.iter().any(|skip| matches(name, skip))
    });
    if list {
        chosen.for_each(|(name, _)| println!("{name}: test"));
        return 0;
    }
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, body) in chosen {
        let started = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(body())));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} ms)", started.elapsed().as_millis());
        if result.is_ok() { passed += 1 } else { failed.push(name) }
    }
    println!("\ntest result: {passed} passed; {} failed", failed.len());
    for name in &failed {
        println!("  failed: {name}");
    }
    if failed.is_empty() { 0 } else { 101 }
}
