//! What incremental sync keeps: checkpoints, the schema catalog, the record of DDL, open target sessions.
//! (in work)
