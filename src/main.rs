//! The `fanfare` program; everything of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    fanfare::cli::main()
}
