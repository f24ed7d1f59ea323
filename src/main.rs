//! The `fanfare` program; everything of it is in the library.

use std::process::ExitCode;

/// Small blocks come and go with each event; glibc's allocator takes longer for them (`benches/README.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    fanfare::cli::main()
}
