//! Tidegate keeps AnalyticDB for MySQL, or any MySQL-protocol target, in step with a TiDB cluster.
//!
//! ```text
//! TiDB --SQL at one TSO-----------------------------> full sync ---+
//!   \-- Pump -> Drainer -> Kafka topic, partition 0 -> incremental -+--> target (MySQL protocol)
//! curl / dashboard <-> HTTP API <-> SQLite store <-> supervisor -> workers
//! ```
//!
//! Dependencies point one way: `main -> {app, cli} -> {api, engine, observe}`; `api -> service -> {store, task, engine::registry}`;
//! `observe -> {store, task, engine::registry}`, whose plain data (figures, rules, lines) the store keeps;
//! `engine -> {store, task, precheck, schema_sync, full, incremental} -> {tidb, binlog, adb} -> {mysql, sql} -> {model, error}`.

mod shared;

pub mod access;
pub mod adb;
pub mod api;
pub mod app;
pub mod binlog;
pub mod cli;
pub mod client;
pub mod config;
pub mod crash;
pub mod crypto;
pub mod engine;
pub mod error;
pub mod full;
pub mod housekeeping;
pub mod incremental;
pub mod listen;
pub mod model;
pub mod mysql;
pub mod observe;
pub mod precheck;
pub mod schema_sync;
pub mod service;
pub mod sql;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod tidb;
pub mod verify;
