//! Weir: a caching reverse proxy. The command line is `weir::cli`.

fn main() -> std::process::ExitCode {
    weir::cli::main()
}
