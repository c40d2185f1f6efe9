//! The binary: hands the command line to `agent::cli` and ends with its exit code.

fn main() -> std::process::ExitCode {
    agent::cli::main()
}
