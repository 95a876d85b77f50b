-- What an operator decided about a DDL at which the task stands: {"kind": "skip"} or {"kind": "replace", "statements": [...]}.
alter table ddl add column decision text;
