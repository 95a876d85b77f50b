-- Who may call, and who did.

create table tokens (
    name       text primary key,
    role       text not null check (role in ('viewer', 'operator', 'admin')),
    -- SHA-256 of the secret, which is random and kept nowhere
    hash       blob not null unique,
    created_at integer not null,
    -- the caller who made it; null = the file of the first token
    created_by text,
    -- null = never
    expires_at integer
) strict;

-- Address from which the actor of an event called.
alter table events add column peer text;
