-- Comparisons of source and target, and what they found.

create table verifications (
    task_id       text not null references tasks (id) on delete cascade,
    n             integer not null,
    -- store/verifications.rs Order as JSON: mode, tables, rows per second, longest time, repair
    wanted        text not null,
    -- queued, running, finished, cancelled, failed
    state         text not null,
    -- equal, different, inconclusive; null until it is finished
    verdict       text,
    -- the first moment at which rows were read; 0 before
    tso           integer not null default 0,
    rows_compared integer not null default 0,
    -- error.rs Error as JSON, of a failed one
    error         text,
    created_at    integer not null,
    ended_at      integer,
    primary key (task_id, n)
) strict;

create table verification_tables (
    task_id       text not null,
    n             integer not null,
    schema_name   text not null,
    table_name    text not null,
    -- null until it is compared
    verdict       text,
    -- why it is no simple "equal"
    detail        text,
    source_rows   integer,
    target_rows   integer,
    missing       integer not null default 0,
    surplus       integer not null default 0,
    different     integer not null default 0,
    -- rows that kept changing while they were compared
    unsettled     integer not null default 0,
    primary key (task_id, n, schema_name, table_name),
    foreign key (task_id, n) references verifications (task_id, n) on delete cascade
) strict;

create table verification_differences (
    task_id       text not null,
    n             integer not null,
    seq           integer not null,
    schema_name   text not null,
    table_name    text not null,
    -- missing, surplus, different
    kind          text not null,
    -- columns that differ, JSON
    columns       text not null,
    -- store/letters.rs LetterColumn as JSON, and a Row of Drainer's protocol with the key's values
    key_columns   text not null,
    key_row       blob not null,
    -- open, asked, repaired
    state         text not null default 'open',
    -- error.rs Error as JSON, of a repair that was refused
    error         text,
    primary key (task_id, n, seq),
    foreign key (task_id, n) references verifications (task_id, n) on delete cascade
) strict;

create index verification_differences_asked on verification_differences (task_id) where state = 'asked';
