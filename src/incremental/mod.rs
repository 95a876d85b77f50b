//! Incremental sync: read, fold, apply, checkpoint.
//!
//! [`stream`] is the loop; [`layout`] and [`batch`] fold row changes into statements; [`catalog`], [`plan`] and `ddl` follow the
//! source's tables; [`lag`] knows how far an idle source has come.

pub mod batch;
pub mod catalog;
mod ddl;
pub mod keyless;
pub mod lag;
pub mod layout;
pub mod marker;
pub mod plan;
pub mod resync;
pub mod stream;
