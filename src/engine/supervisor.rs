//! Reconciles what the API wants (`desired`) with what runs.
