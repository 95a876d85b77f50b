-- What users asked for and what workers observed. Times are milliseconds since the Unix epoch, UTC.

create table meta (
    key   text primary key,
    value text not null
) strict;

create table connections (
    name       text primary key,
    kind       text not null check (kind in ('tidb', 'kafka', 'adb', 'mysql')),
    -- everything but secrets, JSON
    settings   text not null,
    -- secrets, sealed with the key of the data folder (crypto.rs)
    secrets    blob not null,
    version    integer not null default 1,
    created_at integer not null,
    updated_at integer not null
) strict;

create table tasks (
    id                   text primary key,
    name                 text not null unique,
    labels               text not null default '{}',
    spec                 text not null,
    spec_version         integer not null default 1,
    applied_spec_version integer,
    -- written by the API only: none, running, paused, stopped
    desired              text not null default 'none',
    -- written by the worker of the current epoch (and by the API where no worker can run): created, running, ...
    status               text not null default 'created',
    phase                text,
    -- number of the run; a worker writes only while it is its own
    epoch                integer not null default 0,
    -- error.rs Error as JSON
    last_error           text,
    -- {"attempt", "since", "retry_at"} while retrying
    retry                text,
    precheck             text,
    plan                 text,
    created_at           integer not null,
    updated_at           integer not null,
    started_at           integer,
    finished_at          integer
) strict;

create table events (
    id      integer primary key autoincrement,
    at      integer not null,
    task_id text,
    -- command, transition, ddl, error, retry, ...
    kind    text not null,
    actor   text,
    message text not null,
    detail  text not null default '{}'
) strict;

create index events_by_task on events (task_id, id);
