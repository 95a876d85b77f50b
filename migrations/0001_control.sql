-- What users asked for and what workers observed. Times are milliseconds since the Unix epoch, UTC.

create table meta (
    key   text primary key,
    value blob not null
) strict;

create table connections (
    name       text primary key,
    kind       text not null check (kind in ('tidb', 'kafka', 'adb', 'mysql')),
    -- everything but the secret, JSON (task/connection.rs)
    settings   text not null,
    -- the password, sealed with the key of the data folder (crypto.rs); null = none
    secret     blob,
    version    integer not null default 1,
    created_at integer not null,
    updated_at integer not null
) strict;

create table tasks (
    id                   text primary key,
    name                 text not null unique,
    spec                 text not null,
    spec_version         integer not null default 1,
    -- version that the current or last run works with
    applied_spec_version integer,
    -- written by the API only
    desired              text not null default 'none'
                         check (desired in ('none', 'running', 'paused', 'stopped')),
    -- written under the epoch of the run; by the API only where no run can be (resume of a failed task)
    status               text not null default 'created' check (status in
                         ('created', 'running', 'pausing', 'paused', 'failed', 'stopping', 'stopped', 'finished')),
    phase                text,
    -- number of the run; a worker writes only while it is its own
    epoch                integer not null default 0,
    -- error.rs Error as JSON
    last_error           text,
    last_error_at        integer,
    -- {"attempt", "since_ms", "retry_at_ms"} while retrying
    retry                text,
    -- last reports, as the API shows them
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
    -- no reference: the history of a deleted task stays
    task_id text,
    -- command, transition, ddl, error, retry, ...
    kind    text not null,
    actor   text,
    message text not null,
    detail  text not null default '{}'
) strict;

create index events_by_task on events (task_id, id);
