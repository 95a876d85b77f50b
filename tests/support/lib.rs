//! What the end-to-end tests share: the local stack, a server of our own, its API, and an independent eye on both sides.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod both;

pub mod api;
pub mod bend;
pub mod cell;
pub mod compare;
pub mod history;
pub mod proxy;
pub mod server;
pub mod sql;
pub mod stack;
pub mod workload;

/// The repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The server that this build has made: beside the folder of the test that runs.
fn binary() -> std::path::PathBuf {
    let test = std::env::current_exe().expect("a test runs");
    test.ancestors().nth(2).expect("target/debug/deps/").join("tidegate")
}
