//! Compiles the names of a spec: which tables it selects and what they are called on the target.
