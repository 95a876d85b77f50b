//! Creates what the target lacks.
