//! Sandboxes as their users see them: real processes, real namespaces, real control groups.
//!
//! This is its own harness, because the sandboxes' helper must be an executable that calls `sandbox_main`
//! first thing. `cargo test` and `cargo nextest` both know how to talk to it.

mod answers;
mod archives;
mod failures;
mod groups;
mod harness;
mod house;
mod isolation;
mod limits;
mod logs;
mod spares;
mod unenforced;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() == Some("sandbox-init".as_ref()) {
        sandbox::sandbox_main(arguments.collect());
    }
    let mut tests = Vec::new();
    tests.extend(answers::tests());
    tests.extend(archives::tests());
    tests.extend(failures::tests());
    tests.extend(groups::tests());
    tests.extend(isolation::tests());
    tests.extend(limits::tests());
    tests.extend(logs::tests());
    tests.extend(spares::tests());
    tests.extend(unenforced::tests());
    std::process::exit(harness::run(&tests));
}
