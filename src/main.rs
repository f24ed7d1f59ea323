//! The `fanfare` program; everything of it is in the library.

fn main() {}
