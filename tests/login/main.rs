//! The identity provider on a real database: what each call gives, what it refuses, and what it never tells apart.

#![allow(clippy::unwrap_used)]

mod calls;
mod fixture;
mod limits;
mod refresh;
