-- Rules that raise alerts, the alerts, and what is to be told to webhooks.

create table alert_rules (
    name       text primary key,
    -- observe/rule.rs Rule as JSON
    rule       text not null,
    -- the webhook's signing key, sealed; null = none
    secret     blob,
    version    integer not null default 1,
    created_at integer not null,
    updated_at integer not null
) strict;

create table alerts (
    id          integer primary key autoincrement,
    -- no reference: alerts outlive rules and tasks
    rule        text not null,
    kind        text not null,
    task_id     text not null,
    task_name   text not null,
    -- firing, resolved
    state       text not null check (state in ('firing', 'resolved')),
    since       integer not null,
    resolved_at integer,
    value       real,
    threshold   real,
    unit        text,
    detail      text not null,
    -- last time that somebody was told that it holds
    told_at     integer not null
) strict;

create index alerts_by_state on alerts (state, rule, task_id);

create table alert_deliveries (
    id           integer primary key autoincrement,
    rule         text not null,
    -- null for a test
    alert_id     integer references alerts (id) on delete cascade,
    -- firing, repeated, resolved, test
    event        text not null,
    body         text not null,
    -- pending, delivered, failed
    state        text not null,
    attempts     integer not null default 0,
    next_at      integer not null,
    error        text,
    created_at   integer not null,
    delivered_at integer
) strict;

create index alert_deliveries_due on alert_deliveries (state, next_at);
create index alert_deliveries_by_alert on alert_deliveries (alert_id);
