-- Answers to POSTs with an Idempotency-Key, kept for a day.

create table idempotency (
    n          integer primary key autoincrement,
    -- name of the token: callers do not meet in their keys
    caller     text not null,
    key        text not null,
    -- fingerprint of the request, sealed (a body may hold a password that could be guessed from a plain one)
    request    blob not null,
    -- api::idempotency::Answer as JSON, sealed; null while the request is worked on
    answer     blob,
    created_at integer not null,
    unique (caller, key)
) strict;
