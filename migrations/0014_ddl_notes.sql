-- What a person should know of a DDL besides its statements: passed over by policy, dropped clauses, tables copied again.

-- JSON array of texts
alter table ddl add column notes text not null default '[]';
