//! Who runs tasks: the supervisor reconciles desired with running, the worker runs the phases of one task.

pub mod drift;
pub mod endpoints;
pub mod progress;
pub mod registry;
pub mod reset;
pub mod resting;
pub mod settings;
pub mod supervisor;
pub mod worker;
