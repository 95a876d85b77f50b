// The catalog says which table a row belongs to and how it was laid out. It
// follows DDL jobs as Drainer does, quirks included, because the quirks reach
// the consumer:
//
//   - the link id -> (schema, name) is touched only by CREATE, DROP, TRUNCATE
//     and the single-table RENAME;
//   - a job is applied when something of its schema version or a later one is
//     sent. While Drainer runs that is the job's own event. After a restart the
//     jobs of the stretch are known beforehand, so an event can pull in jobs
//     whose own events come later: the first event of a DROP COLUMN (state
//     delete-only) bears the job's final version, and everything up to it is
//     applied at once, while the mark that the column is on its way out is lost.
package main

import (
	"sort"

	"github.com/pingcap/tidb/meta"
	"github.com/pingcap/tidb/parser/model"
)

type catalog struct {
	databases map[int64]*database
	tables    map[int64]*tableState
	truncated map[int64]bool // former ids of truncated tables
	dropping  map[int64]bool // tables with a DROP COLUMN under way
	version   int64          // of the last job applied
	jobs      []*model.Job   // known, not applied yet, by schema version
	names     map[int64]names
}

// names is what the message of an applied job bears.
type names struct{ schema, table string }

type database struct {
	name   string
	tables map[int64]bool
}

type tableState struct {
	schema     string
	databaseID int64
	recent     []layout // at most two, oldest first
	lastJob    int64    // schema version of the last job on this id
}

type layout struct {
	version int64
	info    *model.TableInfo
}

// newCatalog knows the jobs and has applied none of them.
func newCatalog(history []*model.Job) *catalog {
	c := &catalog{
		databases: map[int64]*database{1: {name: "mysql", tables: map[int64]bool{}}}, // made by raw KV writes, without a job
		tables:    map[int64]*tableState{}, truncated: map[int64]bool{}, dropping: map[int64]bool{}, names: map[int64]names{},
	}
	for _, job := range history {
		if takesPart(job) && finished(job) {
			c.jobs = append(c.jobs, job)
		}
	}
	sort.Slice(c.jobs, func(i, j int) bool { return schemaVersion(c.jobs[i]) < schemaVersion(c.jobs[j]) })
	return c
}

func schemaVersion(job *model.Job) int64 { return job.BinlogInfo.SchemaVersion }

func finished(job *model.Job) bool { return job.IsSynced() || job.IsDone() }

func dropsColumnSoon(job *model.Job) bool {
	return job.SchemaState == model.StateDeleteOnly && job.Type == model.ActionDropColumn
}

// takesPart says whether Drainer looks at such a job at all.
func takesPart(job *model.Job) bool {
	switch job.Type {
	case model.ActionUpdateTiFlashReplicaStatus, model.ActionLockTable, model.ActionUnlockTable,
		model.ActionAlterCacheTable, model.ActionAlterNoCacheTable,
		model.ActionAlterTableAttributes, model.ActionAlterTablePartitionAttributes,
		model.ActionCreatePlacementPolicy, model.ActionAlterPlacementPolicy, model.ActionDropPlacementPolicy,
		model.ActionAlterTablePartitionPlacement, model.ActionModifySchemaDefaultPlacement, model.ActionAlterTablePlacement,
		model.ActionCreateResourceGroup, model.ActionAlterResourceGroup, model.ActionDropResourceGroup:
		return false
	}
	return job.TableID <= meta.MaxGlobalID && job.BinlogInfo != nil && job.BinlogInfo.SchemaVersion > 0
}

// add makes a job known, unless it (or a later one) is already.
func (c *catalog) add(job *model.Job) {
	if n := len(c.jobs); n == 0 || schemaVersion(c.jobs[n-1]) < schemaVersion(job) {
		c.jobs = append(c.jobs, job)
	}
}

// advance applies the known jobs up to a schema version. tolerate is asked
// whether a job that cannot be applied may be passed over.
func (c *catalog) advance(version int64, tolerate func(*model.Job, error) bool) error {
	for len(c.jobs) > 0 && schemaVersion(c.jobs[0]) <= version {
		job := c.jobs[0]
		c.jobs = c.jobs[1:]
		if schemaVersion(job) <= c.version {
			continue
		}
		if dropsColumnSoon(job) {
			c.dropping[job.TableID] = true
			continue
		}
		n, err := c.apply(job)
		if err != nil {
			if tolerate != nil && tolerate(job, err) {
				continue
			}
			return err
		}
		c.version = schemaVersion(job)
		c.names[c.version] = n
		if t := c.tables[job.TableID]; t != nil {
			t.lastJob = c.version
		}
	}
	return nil
}

// claim gives the names of the job's message, once.
func (c *catalog) claim(job *model.Job) (names, error) {
	n, ok := c.names[schemaVersion(job)]
	if !ok {
		return n, fatalf("job %d: schema version %d was passed over (now %d)", job.ID, schemaVersion(job), c.version)
	}
	delete(c.names, schemaVersion(job))
	return n, nil
}

func (c *catalog) apply(job *model.Job) (n names, err error) {
	info := job.BinlogInfo.TableInfo
	switch job.Type {
	case model.ActionCreateSchema:
		db := job.BinlogInfo.DBInfo
		if old := c.databases[db.ID]; old != nil && old.name != "mysql" {
			return n, fatalf("schema %s already exists", db.Name.O)
		}
		c.databases[db.ID] = &database{name: db.Name.O, tables: map[int64]bool{}}
		return names{schema: db.Name.O}, nil
	case model.ActionModifySchemaCharsetAndCollate:
		db := job.BinlogInfo.DBInfo
		if c.databases[db.ID] == nil {
			return n, fatalf("schema %s not found", db.Name.O)
		}
		// Drainer starts the database over with an empty table list here. The
		// tables stay known, but a later DROP DATABASE no longer forgets those
		// made before, so their late rows are still sent.
		c.databases[db.ID] = &database{name: db.Name.O, tables: map[int64]bool{}}
		return names{schema: db.Name.O}, nil
	case model.ActionDropSchema:
		db := c.databases[job.SchemaID]
		if db == nil {
			return n, fatalf("schema %d not found", job.SchemaID)
		}
		for id := range db.tables {
			delete(c.tables, id)
		}
		delete(c.databases, job.SchemaID)
		return names{schema: db.name}, nil
	case model.ActionCreateTable, model.ActionCreateView, model.ActionCreateSequence, model.ActionRecoverTable:
		return c.create(job, info)
	case model.ActionCreateTables:
		for _, info := range job.BinlogInfo.MultipleTableInfos {
			if info.ID > meta.MaxGlobalID {
				continue
			}
			if n, err = c.create(job, info); err != nil {
				return n, err
			}
		}
		return n, nil
	case model.ActionRenameTable:
		if _, err = c.remove(job.TableID); err != nil {
			return n, err
		}
		return c.create(job, info)
	case model.ActionTruncateTable:
		if _, err = c.remove(job.TableID); err != nil {
			return n, err
		}
		c.truncated[job.TableID] = true
		return c.create(job, info)
	}

	db := c.databases[job.SchemaID]
	if db == nil {
		return n, fatalf("schema %d not found", job.SchemaID)
	}
	n.schema = db.name
	switch job.Type {
	case model.ActionDropTable, model.ActionDropView, model.ActionDropSequence:
		n.table, err = c.remove(job.TableID)
	default:
		if info == nil {
			return n, fatalf("job %d (%s) carries no table info", job.ID, job.Type)
		}
		t := c.tables[info.ID]
		if t == nil {
			return n, fatalf("job %d (%s): table %s (%d) not found", job.ID, job.Type, info.Name.O, info.ID)
		}
		t.push(schemaVersion(job), info)
		n.table = info.Name.O
		if job.Type == model.ActionDropColumn {
			delete(c.dropping, job.TableID)
		}
	}
	return n, err
}

func (c *catalog) create(job *model.Job, info *model.TableInfo) (n names, err error) {
	db := c.databases[job.SchemaID]
	if db == nil {
		return n, fatalf("schema %d not found", job.SchemaID)
	}
	if info == nil {
		return n, fatalf("job %d (%s) carries no table info", job.ID, job.Type)
	}
	if c.tables[info.ID] != nil {
		return n, fatalf("table %s.%s (%d) already exists", db.name, info.Name.O, info.ID)
	}
	t := &tableState{schema: db.name, databaseID: job.SchemaID}
	t.push(schemaVersion(job), info)
	c.tables[info.ID] = t
	db.tables[info.ID] = true
	return names{db.name, info.Name.O}, nil
}

func (c *catalog) remove(id int64) (name string, err error) {
	t := c.tables[id]
	if t == nil {
		return "", fatalf("table id %d not found", id)
	}
	if db := c.databases[t.databaseID]; db != nil {
		delete(db.tables, id)
	}
	delete(c.tables, id)
	return t.current().Name.O, nil
}

func (t *tableState) current() *model.TableInfo { return t.recent[len(t.recent)-1].info }

// at gives the oldest kept layout whose version is not below the given one.
func (t *tableState) at(version int64) *model.TableInfo {
	for _, l := range t.recent {
		if l.version >= version {
			return l.info
		}
	}
	return nil
}

func (t *tableState) push(version int64, info *model.TableInfo) {
	t.recent = append(t.recent, layout{version, info})
	if n := len(t.recent); n > 2 {
		t.recent = t.recent[n-2:]
	}
}
