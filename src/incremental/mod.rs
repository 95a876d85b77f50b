//! Incremental sync: read, fold, apply, checkpoint.
//!
//! [`stream`] is the loop; [`layout`] and [`batch`] fold row changes into statements; [`catalog`], [`plan`] and `ddl` follow the
//! source's tables; [`replay`] says where a checkpoint can be moved; [`lag`] knows how far an idle source has come.

pub mod batch;
pub mod catalog;
mod ddl;
pub mod decided;
pub mod keyless;
pub mod lag;
pub mod layout;
mod letters;
pub mod marker;
pub mod objects;
pub mod plan;
pub mod replay;
pub mod resync;
pub mod stream;
