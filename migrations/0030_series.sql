-- Figures of tasks over time, for charts. One row per task and step of time; steps of 10 s, 60 s and 600 s are kept for hours,
-- a day and 15 days (observe/series.rs).

-- A short number per task: the rows below hold it instead of the id. Never used twice.
create table series_tasks (
    n       integer primary key autoincrement,
    task_id text not null unique references tasks (id) on delete cascade
) strict;

-- In this order all tasks of one moment lie together: a sample is one append, the end of a tier one range delete. Rows of deleted
-- tasks leave with their time.
create table series (
    step_s  integer not null,
    at_s    integer not null,
    n       integer not null,
    -- observe/figures.rs Sample
    figures blob not null,
    primary key (step_s, at_s, n)
) strict, without rowid;
