//! What is needed to change the interface or the bundled plugins, and by nobody else:
//!
//! ```text
//! cargo run -p tools -- bindings         after a change to plugin-sdk/wit/policy.wit
//! cargo run -p tools -- build            after a change to a plugin, the SDK or the lock file
//! cargo run -p tools -- build --check    builds them and compares: every byte, where the toolchain is the one that was locked
//! cargo run -p tools -- encode IN OUT    makes a component of a module, for device-class/build.sh; `build` locks it
//! ```

mod bindings;
mod build;
mod sources;
mod wrapper;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var_os(wrapper::VARIABLE).is_some() {
        return wrapper::run(std::env::args_os().skip(1));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = arguments.iter().any(|argument| argument == "--check");
    let done = match arguments.first().map(String::as_str) {
        Some("bindings") => bindings::run(check),
        Some("build") => build::run(check),
        Some("encode") if arguments.len() == 3 => build::encode(arguments[1].as_ref(), arguments[2].as_ref()),
        _ => {
            eprintln!("usage: tools bindings|build [--check], or tools encode IN OUT");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
