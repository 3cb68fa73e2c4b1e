//! The binary: parse arguments, pick the subcommand, return its exit code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    portway::cli::main()
}
