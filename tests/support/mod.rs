//! What the end-to-end tests share: the local stack, a server of our own, its API, and an independent eye on both sides.
//!
//! Every test binary compiles this tree and uses its part of it, hence `dead_code`.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
pub mod both;

pub mod api;
pub mod cell;
pub mod compare;
pub mod history;
pub mod proxy;
pub mod server;
pub mod sql;
pub mod stack;
pub mod workload;
